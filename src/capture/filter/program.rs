//! A checked classic BPF program: the form in which a filter is stored, sent and run.
//!
//! [`Program`] can only hold instructions that passed the kernel's own check (`bpf_check_classic` in
//! `net/core/filter.c`): every jump goes forward and stays inside, every way ends in a return. Whoever
//! holds one may therefore run it on any bytes without fear of a loop.

use std::fmt::Write as _;

use super::opcode::*;

/// One instruction, laid out as the kernel's `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// Instructions to skip when a conditional jump's test holds.
    pub jt: u8,
    /// Instructions to skip when it does not.
    pub jf: u8,
    /// The constant operand.
    pub k: u32,
}

/// The kernel's limit on the length of a program (`BPF_MAXINSNS`).
pub const MAX_INSTRUCTIONS: usize = 4096;

/// A filter program that is safe to run.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "Vec<(u16, u8, u8, u32)>", into = "Vec<(u16, u8, u8, u32)>")]
pub struct Program(Vec<Instruction>);

/// Why instructions are no program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadProgram {
    /// There is no instruction, or there are more than [`MAX_INSTRUCTIONS`].
    #[error("a filter program has 1 to {MAX_INSTRUCTIONS} instructions, not {0}")]
    Length(usize),
    /// The kernel knows no such operation.
    #[error("instruction {at}: unknown operation {code:#x}")]
    Operation {
        /// Index of the instruction.
        at: usize,
        /// Its code.
        code: u16,
    },
    /// A jump leaves the program.
    #[error("instruction {0}: jumps beyond the end")]
    Jump(usize),
    /// A scratch memory index is 16 or more.
    #[error("instruction {0}: no such memory word")]
    Memory(usize),
    /// A division or remainder by the constant zero.
    #[error("instruction {0}: divides by zero")]
    Division(usize),
    /// A shift by the constant 32 or more.
    #[error("instruction {0}: shifts by more than 31 bits")]
    Shift(usize),
    /// The last instruction is no return.
    #[error("a filter program must end in a return")]
    NoReturn,
    /// The text is not what `tcpdump -ddd` prints.
    #[error("line {0}: not a line of 'tcpdump -ddd'")]
    Text(usize),
}

impl Program {
    /// Checks `instructions` as the kernel does.
    pub fn new(instructions: Vec<Instruction>) -> Result<Self, BadProgram> {
        let length = instructions.len();
        if length == 0 || length > MAX_INSTRUCTIONS {
            return Err(BadProgram::Length(length));
        }
        for (at, instruction) in instructions.iter().enumerate() {
            check(at, instruction, length - at - 1)?;
        }
        match instructions.last() {
            Some(last) if class(last.code) == RET => Ok(Self(instructions)),
            _ => Err(BadProgram::NoReturn),
        }
    }

    /// Reads what `tcpdump -ddd` prints: the number of instructions, then one a line as
    /// `code jt jf k` in decimal.
    pub fn from_ddd(text: &str) -> Result<Self, BadProgram> {
        let mut lines = text.lines();
        let count: usize =
            lines.next().and_then(|line| line.trim().parse().ok()).ok_or(BadProgram::Text(1))?;
        let mut instructions = Vec::new();
        for (index, line) in lines.enumerate() {
            instructions.push(parse_ddd_line(line).ok_or(BadProgram::Text(index + 2))?);
        }
        if instructions.len() != count {
            return Err(BadProgram::Text(1));
        }
        Self::new(instructions)
    }

    /// The instructions in order.
    pub fn instructions(&self) -> &[Instruction] {
        &self.0
    }

    /// A listing, one instruction a line, as `tcpdump -d` prints it.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (at, instruction) in self.0.iter().enumerate() {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "({at:03}) {}", super::listing::line(at, instruction));
        }
        text
    }
}

/// Checks one instruction with `remaining` instructions behind it.
fn check(at: usize, instruction: &Instruction, remaining: usize) -> Result<(), BadProgram> {
    let Instruction { code, jt, jf, k } = *instruction;
    let unknown = BadProgram::Operation { at, code };
    match class(code) {
        LD if matches!(mode(code), ABS | IND) && matches!(size(code), W | H | B) => Ok(()),
        LD | LDX if code == class(code) | MEM => check_memory(at, k),
        LD | LDX if matches!(code & !1, IMM | LEN) || code == LDX | MSH | B => Ok(()),
        ST | STX if matches!(code, ST | STX) => check_memory(at, k),
        ALU => check_arithmetic(at, instruction),
        JMP if code == JMP | JA => inside(at, k as usize, remaining),
        JMP if matches!(operation(code), JEQ | JGT | JGE | JSET) && code & !0xff == 0 => {
            inside(at, usize::from(jt.max(jf)), remaining)
        }
        RET if matches!(code, 0x06 | 0x16) => Ok(()),
        MISC if matches!(operation(code), TAX | TXA) && code & !0xf0 == MISC => Ok(()),
        _ => Err(unknown),
    }
}

fn inside(at: usize, skip: usize, remaining: usize) -> Result<(), BadProgram> {
    if skip < remaining { Ok(()) } else { Err(BadProgram::Jump(at)) }
}

fn check_memory(at: usize, k: u32) -> Result<(), BadProgram> {
    if (k as usize) < MEMORY_WORDS { Ok(()) } else { Err(BadProgram::Memory(at)) }
}

fn check_arithmetic(at: usize, instruction: &Instruction) -> Result<(), BadProgram> {
    let Instruction { code, k, .. } = *instruction;
    let constant = source(code) == K;
    match operation(code) {
        _ if code & !0xff != 0 => Err(BadProgram::Operation { at, code }),
        DIV | MOD if constant && k == 0 => Err(BadProgram::Division(at)),
        LSH | RSH if constant && k > 31 => Err(BadProgram::Shift(at)),
        ADD | SUB | MUL | DIV | OR | AND | LSH | RSH | MOD | XOR => Ok(()),
        NEG if constant => Ok(()),
        _ => Err(BadProgram::Operation { at, code }),
    }
}

fn parse_ddd_line(line: &str) -> Option<Instruction> {
    let mut fields = line.split_ascii_whitespace();
    let instruction = Instruction {
        code: fields.next()?.parse().ok()?,
        jt: fields.next()?.parse().ok()?,
        jf: fields.next()?.parse().ok()?,
        k: fields.next()?.parse().ok()?,
    };
    fields.next().is_none().then_some(instruction)
}

impl TryFrom<Vec<(u16, u8, u8, u32)>> for Program {
    type Error = BadProgram;

    fn try_from(numbers: Vec<(u16, u8, u8, u32)>) -> Result<Self, BadProgram> {
        Self::new(numbers.into_iter().map(|(code, jt, jf, k)| Instruction { code, jt, jf, k }).collect())
    }
}

impl From<Program> for Vec<(u16, u8, u8, u32)> {
    fn from(program: Program) -> Self {
        program.0.iter().map(|i| (i.code, i.jt, i.jf, i.k)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETURN: Instruction = Instruction { code: RET, jt: 0, jf: 0, k: 1 };

    fn refused(first: (u16, u8, u8, u32)) -> BadProgram {
        let (code, jt, jf, k) = first;
        Program::new(vec![Instruction { code, jt, jf, k }, RETURN]).unwrap_err()
    }

    #[test]
    fn what_the_kernel_refuses_is_refused() {
        assert_eq!(Program::new(vec![]), Err(BadProgram::Length(0)));
        assert_eq!(Program::new(vec![RETURN; MAX_INSTRUCTIONS + 1]), Err(BadProgram::Length(4097)));
        assert_eq!(refused((JMP | JEQ, 0, 1, 0)), BadProgram::Jump(0));
        assert_eq!(refused((JMP | JA, 0, 0, u32::MAX)), BadProgram::Jump(0));
        assert_eq!(refused((ST, 0, 0, 16)), BadProgram::Memory(0));
        assert_eq!(refused((LDX | MEM, 0, 0, 16)), BadProgram::Memory(0));
        assert_eq!(refused((ALU | DIV, 0, 0, 0)), BadProgram::Division(0));
        assert_eq!(refused((ALU | MOD, 0, 0, 0)), BadProgram::Division(0));
        assert_eq!(refused((ALU | LSH, 0, 0, 32)), BadProgram::Shift(0));
        assert_eq!(refused((0xffff, 0, 0, 0)), BadProgram::Operation { at: 0, code: 0xffff });
        assert_eq!(refused((ALU | 0x100, 0, 0, 0)), BadProgram::Operation { at: 0, code: 0x104 });
        assert_eq!(refused((LDX | ABS, 0, 0, 0)), BadProgram::Operation { at: 0, code: 0x21 });
        let no_return = Program::new(vec![Instruction { code: LD, jt: 0, jf: 0, k: 0 }]);
        assert_eq!(no_return, Err(BadProgram::NoReturn));
    }

    #[test]
    fn numbers_cross_json_and_are_checked_again() {
        let program = Program::from_ddd("4\n40 0 0 12\n21 0 1 2048\n6 0 0 262144\n6 0 0 0\n").unwrap();
        let json = serde_json::to_string(&program).unwrap();
        assert_eq!(json, "[[40,0,0,12],[21,0,1,2048],[6,0,0,262144],[6,0,0,0]]");
        assert_eq!(serde_json::from_str::<Program>(&json).unwrap(), program);
        assert!(serde_json::from_str::<Program>("[[40,0,0,12]]").is_err());
    }

    #[test]
    fn text_that_is_not_ddd_is_refused_with_its_line() {
        assert_eq!(Program::from_ddd(""), Err(BadProgram::Text(1)));
        assert_eq!(Program::from_ddd("2\n6 0 0 0\n"), Err(BadProgram::Text(1)));
        assert_eq!(Program::from_ddd("1\n6 0 0\n"), Err(BadProgram::Text(2)));
        assert_eq!(Program::from_ddd("1\n6 0 0 0 0\n"), Err(BadProgram::Text(2)));
        assert_eq!(Program::from_ddd("1\n6 0 0 -1\n"), Err(BadProgram::Text(2)));
    }
}
