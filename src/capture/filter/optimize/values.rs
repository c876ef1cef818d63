//! Value numbers: equal numbers stand for equal values, whatever the frame.

use std::collections::BTreeMap;

use super::super::graph::Statement;
use super::super::interpreter::arithmetic;
use super::super::opcode::*;

/// A statement that was removed but keeps its place.
pub(super) const NOP: u16 = u16::MAX;

/// The registers: sixteen words of memory, then the accumulator, then the index register.
pub(super) const ACCUMULATOR: usize = MEMORY_WORDS;
pub(super) const INDEX: usize = MEMORY_WORDS + 1;
pub(super) const ATOMS: usize = MEMORY_WORDS + 2;

/// The value number of something unknown.
pub(super) const UNKNOWN: u32 = 0;

/// The registers a statement or test reads, as bits.
pub(super) fn used(statement: &Statement) -> u32 {
    let Statement { code, k } = *statement;
    let (a, x) = (1 << ACCUMULATOR, 1 << INDEX);
    match class(code) {
        _ if code == NOP => 0,
        RET => 0,
        LD | LDX if mode(code) == IND => x,
        LD | LDX if mode(code) == MEM => 1 << (k % MEMORY_WORDS as u32),
        LD | LDX => 0,
        ST => a,
        STX => x,
        JMP | ALU if source(code) == X => a | x,
        JMP | ALU => a,
        _ if operation(code) == TXA => x,
        _ => a,
    }
}

/// The register a statement writes.
pub(super) fn defined(statement: &Statement) -> Option<usize> {
    let Statement { code, k } = *statement;
    match class(code) {
        _ if code == NOP => None,
        LD | ALU => Some(ACCUMULATOR),
        LDX => Some(INDEX),
        ST | STX => Some(k as usize % MEMORY_WORDS),
        MISC if operation(code) == TAX => Some(INDEX),
        MISC => Some(ACCUMULATOR),
        _ => None,
    }
}

/// The numbers given out in one pass.
#[derive(Default)]
pub(super) struct Values {
    numbers: BTreeMap<(u16, u32, u32), u32>,
    /// The constants among them.
    constants: BTreeMap<u32, u32>,
}

impl Values {
    /// The number of what `code` makes of two operands.
    fn number(&mut self, code: u16, first: u32, second: u32) -> u32 {
        // Number 0 means unknown; a pass gives out far fewer than 2^32.
        let fresh = self.numbers.len() as u32 + 1;
        *self.numbers.entry((code, first, second)).or_insert(fresh)
    }

    pub(super) fn constant_number(&mut self, value: u32) -> u32 {
        let number = self.number(LD | IMM, value, 0);
        self.constants.insert(number, value);
        number
    }

    pub(super) fn constant(&self, number: u32) -> Option<u32> {
        self.constants.get(&number).copied()
    }
}

/// Applies one statement to the registers' value numbers; with `alter` it is also simplified.
pub(super) struct Step<'a> {
    pub(super) known: &'a mut Values,
    pub(super) registers: &'a mut [u32; ATOMS],
    pub(super) alter: bool,
    /// Set when a statement became another.
    pub(super) changed: &'a mut bool,
}

impl Step<'_> {
    pub(super) fn run(&mut self, statement: &mut Statement) -> Result<(), &'static str> {
        let Statement { code, k } = *statement;
        match (class(code), mode(code)) {
            _ if code == NOP => {}
            (LD, ABS) => self.load_packet(statement),
            (LD, IND) => self.load_relative(statement),
            (LD, LEN) => {
                let value = self.known.number(code, 0, 0);
                self.store(statement, ACCUMULATOR, value);
            }
            (LD | LDX, IMM) => {
                let value = self.known.constant_number(k);
                self.store(statement, loaded(code), value);
            }
            (LD | LDX, MEM) => self.load_memory(statement),
            (LDX, MSH) => {
                let value = self.known.number(code, k, 0);
                self.store(statement, INDEX, value);
            }
            (ALU, _) if operation(code) == NEG => self.negate(statement),
            (ALU, _) if source(code) == K => self.with_constant(statement)?,
            (ALU, _) => self.with_index(statement)?,
            (MISC, _) if operation(code) == TXA => self.store(statement, ACCUMULATOR, self.get(INDEX)),
            (MISC, _) => self.store(statement, INDEX, self.get(ACCUMULATOR)),
            (ST, _) => self.store(statement, k as usize, self.get(ACCUMULATOR)),
            (STX, _) => self.store(statement, k as usize, self.get(INDEX)),
            _ => {}
        }
        Ok(())
    }

    fn get(&self, atom: usize) -> u32 {
        self.registers.get(atom).copied().unwrap_or(UNKNOWN)
    }

    fn set(&mut self, atom: usize, value: u32) {
        if let Some(register) = self.registers.get_mut(atom) {
            *register = value;
        }
    }

    /// Writes a register; a statement that writes what is already there goes.
    fn store(&mut self, statement: &mut Statement, atom: usize, value: u32) {
        if self.alter && value != UNKNOWN && self.get(atom) == value {
            statement.code = NOP;
        } else {
            self.set(atom, value);
        }
    }

    fn replace(&mut self, statement: &mut Statement, code: u16, k: u32) {
        *statement = Statement::new(code, k);
        *self.changed = true;
    }

    /// The constant in a register, if statements may be altered.
    fn usable_constant(&self, atom: usize) -> Option<u32> {
        self.known.constant(self.get(atom)).filter(|_| self.alter)
    }

    fn load_packet(&mut self, statement: &mut Statement) {
        let value = self.known.number(statement.code, statement.k, 0);
        self.store(statement, ACCUMULATOR, value);
    }

    fn load_relative(&mut self, statement: &mut Statement) {
        if let Some(constant) = self.usable_constant(INDEX) {
            let offset = statement.k.wrapping_add(constant);
            self.replace(statement, LD | ABS | size(statement.code), offset);
            return self.load_packet(statement);
        }
        let value = self.known.number(statement.code, statement.k, self.get(INDEX));
        self.store(statement, ACCUMULATOR, value);
    }

    fn load_memory(&mut self, statement: &mut Statement) {
        let from = statement.k as usize;
        let (value, to) = (self.get(from), loaded(statement.code));
        if let Some(constant) = self.usable_constant(from) {
            self.replace(statement, class(statement.code) | IMM, constant);
        }
        self.store(statement, to, value);
    }

    fn negate(&mut self, statement: &mut Statement) {
        let value = match self.usable_constant(ACCUMULATOR) {
            Some(constant) => {
                *statement = Statement::new(LD | IMM, constant.wrapping_neg());
                self.known.constant_number(statement.k)
            }
            None => self.known.number(statement.code, self.get(ACCUMULATOR), 0),
        };
        self.set(ACCUMULATOR, value);
    }

    fn with_constant(&mut self, statement: &mut Statement) -> Result<(), &'static str> {
        let Statement { code, k } = *statement;
        if self.alter && k == 0 {
            match operation(code) {
                // Not SUB: a comparison may still turn into one with its operand.
                ADD | LSH | RSH | OR | XOR => {
                    statement.code = NOP;
                    return Ok(());
                }
                MUL | AND => {
                    statement.code = LD | IMM;
                    let zero = self.known.constant_number(0);
                    self.set(ACCUMULATOR, zero);
                    return Ok(());
                }
                DIV | MOD => return Err("divides by zero"),
                _ => {}
            }
        }
        if let Some(constant) = self.usable_constant(ACCUMULATOR) {
            return self.fold(statement, constant, k);
        }
        let operand = self.known.constant_number(k);
        let value = self.known.number(code, self.get(ACCUMULATOR), operand);
        self.set(ACCUMULATOR, value);
        Ok(())
    }

    fn with_index(&mut self, statement: &mut Statement) -> Result<(), &'static str> {
        let operation = operation(statement.code);
        let (a, x) = (self.usable_constant(ACCUMULATOR), self.usable_constant(INDEX));
        match (a, x) {
            (Some(a), Some(x)) => return self.fold(statement, a, x),
            (None, Some(x)) => {
                if matches!(operation, LSH | RSH) && x > 31 {
                    return Err("shifts by more than 31 bits");
                }
                self.replace(statement, ALU | K | operation, x);
                let operand = self.known.constant_number(x);
                let value = self.known.number(statement.code, self.get(ACCUMULATOR), operand);
                self.set(ACCUMULATOR, value);
                return Ok(());
            }
            (Some(0), None) if matches!(operation, ADD | OR | XOR) => {
                *statement = Statement::new(MISC | TXA, statement.k);
                self.store(statement, ACCUMULATOR, self.get(INDEX));
                return Ok(());
            }
            (Some(0), None) if matches!(operation, MUL | DIV | MOD | AND | LSH | RSH) => {
                *statement = Statement::new(LD | IMM, 0);
                let zero = self.known.constant_number(0);
                self.store(statement, ACCUMULATOR, zero);
                return Ok(());
            }
            _ => {}
        }
        let value = self.known.number(statement.code, self.get(ACCUMULATOR), self.get(INDEX));
        self.set(ACCUMULATOR, value);
        Ok(())
    }

    /// Replaces arithmetic on two constants by its result.
    fn fold(&mut self, statement: &mut Statement, a: u32, b: u32) -> Result<(), &'static str> {
        let result = arithmetic(statement.code, a, b).ok_or("divides by zero")?;
        self.replace(statement, LD | IMM, result);
        let value = self.known.constant_number(result);
        self.set(ACCUMULATOR, value);
        Ok(())
    }
}

/// The register a load writes.
fn loaded(code: u16) -> usize {
    if class(code) == LD { ACCUMULATOR } else { INDEX }
}
