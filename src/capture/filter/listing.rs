//! Instructions as text, in the manner of libpcap's `bpf_image`.

use super::opcode::*;
use super::program::Instruction;

/// One instruction at index `at`, without the index: mnemonic, operand and, for a conditional jump,
/// the two targets.
pub(super) fn line(at: usize, instruction: &Instruction) -> String {
    let Instruction { code, jt, jf, k } = *instruction;
    let operand = operand(at, code, k);
    let name = mnemonic(code);
    if class(code) == JMP && code != JMP | JA {
        let (jt, jf) = (at + 1 + usize::from(jt), at + 1 + usize::from(jf));
        return format!("{name:<8} {operand:<16} jt {jt}\tjf {jf}");
    }
    format!("{name:<8} {operand}")
}

fn mnemonic(code: u16) -> String {
    let width = match size(code) {
        H => "h",
        B => "b",
        _ => "",
    };
    match class(code) {
        LD => format!("ld{width}"),
        LDX => format!("ldx{width}"),
        ST => "st".to_owned(),
        STX => "stx".to_owned(),
        RET => "ret".to_owned(),
        MISC if operation(code) == TXA => "txa".to_owned(),
        MISC => "tax".to_owned(),
        JMP => named(code, &[(JA, "ja"), (JEQ, "jeq"), (JGT, "jgt"), (JGE, "jge"), (JSET, "jset")]),
        _ => named(
            code,
            &[
                (ADD, "add"),
                (SUB, "sub"),
                (MUL, "mul"),
                (DIV, "div"),
                (OR, "or"),
                (AND, "and"),
                (LSH, "lsh"),
                (RSH, "rsh"),
                (NEG, "neg"),
                (MOD, "mod"),
                (XOR, "xor"),
            ],
        ),
    }
}

fn named(code: u16, names: &[(u16, &str)]) -> String {
    let found = names.iter().find(|(wanted, _)| *wanted == operation(code));
    found.map_or_else(|| format!("{code:#x}"), |(_, name)| (*name).to_owned())
}

fn operand(at: usize, code: u16, k: u32) -> String {
    match (class(code), mode(code)) {
        (LD | LDX, ABS) => format!("[{k}]"),
        (LD | LDX, IND) => format!("[x + {k}]"),
        (LD | LDX, MEM) | (ST | STX, _) => format!("M[{k}]"),
        (LD | LDX, LEN) => "#pktlen".to_owned(),
        (LD | LDX, MSH) => format!("4*([{k}]&0xf)"),
        (LD | LDX, _) => format!("#{k:#x}"),
        (RET, _) if code & A != 0 => String::new(),
        (RET, _) => format!("#{k}"),
        (JMP, _) if code == JMP | JA => (at + 1 + k as usize).to_string(),
        (JMP | ALU, _) if source(code) == X => "x".to_owned(),
        (ALU, _) if matches!(operation(code), NEG) => String::new(),
        (ALU, _) if matches!(operation(code), AND | OR | XOR) => format!("#{k:#x}"),
        (ALU, _) => format!("#{k}"),
        (JMP, _) => format!("#{k:#x}"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Program;

    #[test]
    fn a_listing_reads_as_tcpdump_d() {
        let program = Program::from_ddd("4\n40 0 0 12\n21 0 1 2048\n6 0 0 262144\n6 0 0 0\n").unwrap();
        let expected = "(000) ldh      [12]\n(001) jeq      #0x800           jt 2\tjf 3\n\
                        (002) ret      #262144\n(003) ret      #0\n";
        assert_eq!(program.to_text(), expected);
    }
}
