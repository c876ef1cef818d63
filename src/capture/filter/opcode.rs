//! Operation codes of classic BPF, as in the kernel's `linux/bpf_common.h` and `linux/filter.h`.
//!
//! A code is a sum: class, then size and mode (loads), or operation and source (arithmetic, jumps).

pub(super) const LD: u16 = 0x00;
pub(super) const LDX: u16 = 0x01;
pub(super) const ST: u16 = 0x02;
pub(super) const STX: u16 = 0x03;
pub(super) const ALU: u16 = 0x04;
pub(super) const JMP: u16 = 0x05;
pub(super) const RET: u16 = 0x06;
pub(super) const MISC: u16 = 0x07;

/// Sizes of a load: 32, 16 and 8 bits.
pub(super) const W: u16 = 0x00;
pub(super) const H: u16 = 0x08;
pub(super) const B: u16 = 0x10;

/// Modes of a load: constant, packet, packet relative to X, scratch memory, wire length, IPv4 header length.
pub(super) const IMM: u16 = 0x00;
pub(super) const ABS: u16 = 0x20;
pub(super) const IND: u16 = 0x40;
pub(super) const MEM: u16 = 0x60;
pub(super) const LEN: u16 = 0x80;
pub(super) const MSH: u16 = 0xa0;

pub(super) const ADD: u16 = 0x00;
pub(super) const SUB: u16 = 0x10;
pub(super) const MUL: u16 = 0x20;
pub(super) const DIV: u16 = 0x30;
pub(super) const OR: u16 = 0x40;
pub(super) const AND: u16 = 0x50;
pub(super) const LSH: u16 = 0x60;
pub(super) const RSH: u16 = 0x70;
pub(super) const NEG: u16 = 0x80;
pub(super) const MOD: u16 = 0x90;
pub(super) const XOR: u16 = 0xa0;

pub(super) const JA: u16 = 0x00;
pub(super) const JEQ: u16 = 0x10;
pub(super) const JGT: u16 = 0x20;
pub(super) const JGE: u16 = 0x30;
pub(super) const JSET: u16 = 0x40;

/// Operand of arithmetic and jumps: the constant, or X.
pub(super) const K: u16 = 0x00;
pub(super) const X: u16 = 0x08;
/// Operand of a return: the accumulator.
pub(super) const A: u16 = 0x10;

pub(super) const TAX: u16 = 0x00;
pub(super) const TXA: u16 = 0x80;

/// Words of scratch memory (`BPF_MEMWORDS`).
pub(super) const MEMORY_WORDS: usize = 16;

/// The class of a code.
pub(super) const fn class(code: u16) -> u16 {
    code & 0x07
}

/// The size of a load.
pub(super) const fn size(code: u16) -> u16 {
    code & 0x18
}

/// The mode of a load.
pub(super) const fn mode(code: u16) -> u16 {
    code & 0xe0
}

/// The operation of an arithmetic instruction or jump.
pub(super) const fn operation(code: u16) -> u16 {
    code & 0xf0
}

/// The operand of an arithmetic instruction or jump: [`K`] or [`X`].
pub(super) const fn source(code: u16) -> u16 {
    code & 0x08
}
