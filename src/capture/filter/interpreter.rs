//! Running a filter program on a frame.
//!
//! The meaning is that of libpcap's `bpf_filter`: a load outside the captured bytes, or a division by
//! zero, ends the program with "no match". [`Program`] promises that jumps go forward only, so a run
//! takes at most as many steps as there are instructions.

use super::opcode::*;
use super::program::{Instruction, Program};

impl Program {
    /// Whether the filter takes `frame`; `wire_len` is its length on the wire in bytes, which may be
    /// more than what was captured.
    pub fn matches(&self, frame: &[u8], wire_len: usize) -> bool {
        run(self.instructions(), frame, wire_len).is_some_and(|verdict| verdict != 0)
    }
}

/// The value returned by the program; `None` when a load or division fails.
#[inline]
fn run(program: &[Instruction], frame: &[u8], wire_len: usize) -> Option<u32> {
    // No frame is near 4 GiB long.
    let mut machine = Machine { a: 0, x: 0, memory: [0; MEMORY_WORDS], frame, wire_len: wire_len as u32 };
    let mut rest = program.iter();
    loop {
        let &Instruction { code, jt, jf, k } = rest.next()?;
        let (a, x) = (machine.a, machine.x);
        let holds = match code {
            0x15 => a == k,     // jeq #k
            0x1d => a == x,     // jeq x
            0x25 => a > k,      // jgt #k
            0x2d => a > x,      // jgt x
            0x35 => a >= k,     // jge #k
            0x3d => a >= x,     // jge x
            0x45 => a & k != 0, // jset #k
            0x4d => a & x != 0, // jset x
            0x05 => {
                rest = rest.as_slice().get(k as usize..)?.iter();
                continue;
            }
            0x06 => return Some(k), // ret #k
            0x16 => return Some(a), // ret a
            _ => {
                machine.step(code, k)?;
                continue;
            }
        };
        let skip = if holds { jt } else { jf };
        rest = rest.as_slice().get(usize::from(skip)..)?.iter();
    }
}

/// The registers, and what they are loaded from.
struct Machine<'a> {
    a: u32,
    x: u32,
    memory: [u32; MEMORY_WORDS],
    frame: &'a [u8],
    wire_len: u32,
}

impl Machine<'_> {
    /// Everything but jumps and returns.
    #[inline(always)]
    fn step(&mut self, code: u16, k: u32) -> Option<()> {
        let (frame, at) = (self.frame, k as usize);
        // The mask changes nothing, the index was checked; it spares the bounds check.
        let word = at % MEMORY_WORDS;
        match code {
            0x20 => self.a = load4(frame, at)?,                   // ld [k]
            0x28 => self.a = load2(frame, at)?,                   // ldh [k]
            0x30 => self.a = load1(frame, at)?,                   // ldb [k]
            0x40 => self.a = load4(frame, indirect(self.x, k)?)?, // ld [x + k]
            0x48 => self.a = load2(frame, indirect(self.x, k)?)?, // ldh [x + k]
            0x50 => self.a = load1(frame, indirect(self.x, k)?)?, // ldb [x + k]
            0x00 => self.a = k,                                   // ld #k
            0x60 => self.a = self.memory[word],                   // ld M[k]
            0x80 => self.a = self.wire_len,                       // ld #pktlen
            0x01 => self.x = k,                                   // ldx #k
            0x61 => self.x = self.memory[word],                   // ldx M[k]
            0x81 => self.x = self.wire_len,                       // ldx #pktlen
            0xb1 => self.x = (load1(frame, at)? & 0xf) << 2,      // ldxb 4*([k]&0xf)
            0x02 => self.memory[word] = self.a,                   // st M[k]
            0x03 => self.memory[word] = self.x,                   // stx M[k]
            0x07 => self.x = self.a,                              // tax
            0x87 => self.a = self.x,                              // txa
            _ => {
                let operand = if source(code) == X { self.x } else { k };
                self.a = arithmetic(code, self.a, operand)?;
            }
        }
        Some(())
    }
}

/// The offset `x + k`; an overflow lies outside every frame.
#[inline]
fn indirect(x: u32, k: u32) -> Option<usize> {
    x.checked_add(k).map(|offset| offset as usize)
}

#[inline]
fn load1(frame: &[u8], at: usize) -> Option<u32> {
    frame.get(at).copied().map(u32::from)
}

#[inline]
fn load2(frame: &[u8], at: usize) -> Option<u32> {
    let bytes = frame.get(at..)?.first_chunk()?;
    Some(u32::from(u16::from_be_bytes(*bytes)))
}

#[inline]
fn load4(frame: &[u8], at: usize) -> Option<u32> {
    let bytes = frame.get(at..)?.first_chunk()?;
    Some(u32::from_be_bytes(*bytes))
}

/// Arithmetic on the accumulator: wrapping, and a shift by 32 or more leaves nothing.
pub(super) fn arithmetic(code: u16, a: u32, b: u32) -> Option<u32> {
    Some(match operation(code) {
        ADD => a.wrapping_add(b),
        SUB => a.wrapping_sub(b),
        MUL => a.wrapping_mul(b),
        DIV => a.checked_div(b)?,
        MOD => a.checked_rem(b)?,
        OR => a | b,
        AND => a & b,
        XOR => a ^ b,
        LSH => a.checked_shl(b).unwrap_or(0),
        RSH => a.checked_shr(b).unwrap_or(0),
        NEG => a.wrapping_neg(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `ld #a; ldx #x; code #k; ret a` returns.
    fn result(code: u16, a: u32, x: u32, k: u32) -> Option<u32> {
        let instruction = |code, k| Instruction { code, jt: 0, jf: 0, k };
        run(&[instruction(0x00, a), instruction(0x01, x), instruction(code, k), instruction(0x16, 0)], &[], 0)
    }

    #[test]
    fn arithmetic_wraps_and_never_traps() {
        assert_eq!(result(ALU | ADD | X, u32::MAX, 2, 0), Some(1));
        assert_eq!(result(ALU | SUB | K, 0, 0, 1), Some(u32::MAX));
        assert_eq!(result(ALU | MUL | X, 0x8000_0001, 2, 0), Some(2));
        assert_eq!(result(ALU | NEG, 1, 0, 0), Some(u32::MAX));
        assert_eq!(result(ALU | NEG, 0x8000_0000, 0, 0), Some(0x8000_0000));
        assert_eq!(result(ALU | XOR | X, 0b1100, 0b1010, 0), Some(0b0110));
        assert_eq!(result(ALU | DIV | X, 7, 2, 0), Some(3));
        assert_eq!(result(ALU | MOD | X, 7, 4, 0), Some(3));
    }

    #[test]
    fn division_by_zero_ends_the_program_and_a_long_shift_leaves_nothing() {
        assert_eq!(result(ALU | DIV | X, 7, 0, 0), None);
        assert_eq!(result(ALU | MOD | X, 7, 0, 0), None);
        assert_eq!(result(ALU | LSH | X, 7, 31, 0), Some(1 << 31));
        assert_eq!(result(ALU | LSH | X, 7, 32, 0), Some(0));
        assert_eq!(result(ALU | RSH | X, u32::MAX, 40, 0), Some(0));
    }

    #[test]
    fn loads_are_big_endian_and_end_the_program_outside_the_frame() {
        let load = |code, k, x| {
            let instruction = |code, k| Instruction { code, jt: 0, jf: 0, k };
            run(
                &[instruction(LDX | IMM, x), instruction(code, k), instruction(0x16, 0)],
                &[1, 2, 3, 4, 0x45],
                90,
            )
        };
        assert_eq!(load(LD | ABS | W, 1, 0), Some(0x0203_0445));
        assert_eq!(load(LD | ABS | W, 2, 0), None);
        assert_eq!(load(LD | ABS | H, 3, 0), Some(0x0445));
        assert_eq!(load(LD | ABS | H, 4, 0), None);
        assert_eq!(load(LD | IND | B, 1, 3), Some(0x45));
        assert_eq!(load(LD | IND | B, 1, u32::MAX), None);
        assert_eq!(load(LD | ABS | B, u32::MAX, 0), None);
        assert_eq!(load(LD | LEN, 0, 0), Some(90));
        assert_eq!(load(LDX | MSH | B, 4, 0), Some(0));
        assert_eq!(load(LDX | MSH | B, 5, 0), None);
    }

    #[test]
    fn memory_keeps_words_and_starts_empty() {
        let program = |store: u16| {
            let instruction = |code, k| Instruction { code, jt: 0, jf: 0, k };
            let steps = [(LD | IMM, 5), (LDX | IMM, 6), (store, 15), (LD | MEM, 15), (0x16, 0)];
            run(&steps.map(|(code, k)| instruction(code, k)), &[], 0)
        };
        assert_eq!((program(ST), program(STX), program(MISC | TXA)), (Some(5), Some(6), Some(0)));
    }

    #[test]
    fn jumps_compare_without_sign() {
        let taken = |code, a, x, k| {
            let instruction = |code, jt, k| Instruction { code, jt, jf: 0, k };
            let steps = [(LD | IMM, 0, a), (LDX | IMM, 0, x), (code, 1, k), (RET, 0, 0), (RET, 0, 1)];
            run(&steps.map(|(code, jt, k)| instruction(code, jt, k)), &[], 0) == Some(1)
        };
        assert!(taken(JMP | JGT | K, u32::MAX, 0, 1) && !taken(JMP | JGT | K, 1, 0, 1));
        assert!(taken(JMP | JGE | X, 1, 1, 0) && !taken(JMP | JGE | X, 0, u32::MAX, 0));
        assert!(taken(JMP | JSET | K, 6, 0, 2) && !taken(JMP | JSET | X, 6, 1, 0));
        assert!(taken(JMP | JEQ | X, 3, 3, 0) && !taken(JMP | JEQ | K, 3, 3, 4));
        assert!(taken(JMP | JA, 0, 0, 1) && !taken(JMP | JA, 0, 0, 0));
    }
}
