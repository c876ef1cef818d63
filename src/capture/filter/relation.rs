//! Comparisons of arithmetic: `tcp[tcpflags] & (tcp-syn|tcp-fin) != 0`.
//!
//! Every intermediate result goes to a word of scratch memory, of which BPF has sixteen; the optimizer
//! removes the detours. A load from a protocol's header brings a guard: the comparison is false for
//! frames without that header. As in libpcap, a guard is lost when the load is the right side of an
//! operator, so `1 + tcp[0] > 5` looks at any frame.

use super::error::{Refusal, Span};
use super::graph::{Condition, Statement, jump};
use super::lower::Lowering;
use super::opcode::*;
use super::syntax::*;

/// Which words of scratch memory are in use. They are handed out in turn, as libpcap does.
#[derive(Default)]
pub(super) struct Registers {
    used: [bool; MEMORY_WORDS],
    current: usize,
}

impl Registers {
    fn allocate(&mut self) -> Option<u32> {
        for _ in 0..MEMORY_WORDS {
            match self.used.get_mut(self.current) {
                Some(used) if !*used => {
                    *used = true;
                    return u32::try_from(self.current).ok();
                }
                _ => self.current = (self.current + 1) % MEMORY_WORDS,
            }
        }
        None
    }

    fn free(&mut self, register: u32) {
        if let Some(used) = self.used.get_mut(register as usize) {
            *used = false;
        }
    }
}

/// Code that leaves a number in a word of scratch memory.
struct Computed {
    statements: Vec<Statement>,
    register: u32,
    guard: Option<Condition>,
}

fn guarded(guard: Option<Condition>, condition: Condition) -> Condition {
    match guard {
        Some(guard) => guard.and(condition),
        None => condition,
    }
}

impl Lowering {
    pub(super) fn relation(
        &mut self,
        comparison: Comparison,
        left: &Arithmetic,
        right: &Arithmetic,
        span: Span,
    ) -> Result<Condition, Refusal> {
        let left = self.compute(left, span)?;
        let right = self.compute(right, span)?;
        let mut statements = left.statements;
        statements.extend(right.statements);
        statements.push(Statement::new(LDX | MEM, right.register));
        statements.push(Statement::new(LD | MEM, left.register));
        let test = match comparison {
            Comparison::Equal | Comparison::NotEqual => {
                statements.push(Statement::new(ALU | SUB | X, 0));
                jump(JEQ, 0)
            }
            Comparison::Greater | Comparison::LessEqual => Statement::new(JMP | JGT | X, 0),
            Comparison::GreaterEqual | Comparison::Less => Statement::new(JMP | JGE | X, 0),
        };
        self.registers.free(left.register);
        self.registers.free(right.register);
        let condition = Condition::Test(statements, test);
        let condition = match comparison {
            Comparison::NotEqual | Comparison::LessEqual | Comparison::Less => condition.negate(),
            Comparison::Equal | Comparison::Greater | Comparison::GreaterEqual => condition,
        };
        let guard = match (left.guard, right.guard) {
            (Some(left), Some(right)) => Some(left.and(right)),
            (left, right) => left.or(right),
        };
        Ok(guarded(guard, condition))
    }

    fn compute(&mut self, arithmetic: &Arithmetic, span: Span) -> Result<Computed, Refusal> {
        match arithmetic {
            Arithmetic::Number(number) => self.start(Statement::new(LD | IMM, *number), span),
            Arithmetic::Length => self.start(Statement::new(LD | LEN, 0), span),
            Arithmetic::Load { protocol, index, size, span } => self.load(*protocol, index, *size, *span),
            Arithmetic::Negate(inner) => {
                let mut computed = self.compute(inner, span)?;
                let register = computed.register;
                computed.statements.extend([
                    Statement::new(LD | MEM, register),
                    Statement::new(ALU | NEG, 0),
                    Statement::new(ST, register),
                ]);
                Ok(computed)
            }
            Arithmetic::Binary { operator, left, right, span } => self.binary(*operator, left, right, *span),
        }
    }

    fn start(&mut self, load: Statement, span: Span) -> Result<Computed, Refusal> {
        let register = self.register(span)?;
        Ok(Computed { statements: vec![load, Statement::new(ST, register)], register, guard: None })
    }

    fn register(&mut self, span: Span) -> Result<u32, Refusal> {
        self.registers.allocate().ok_or_else(|| Refusal::new(span, "the arithmetic is nested too deeply"))
    }

    fn binary(
        &mut self,
        operator: Operator,
        left: &Arithmetic,
        right: &Arithmetic,
        span: Span,
    ) -> Result<Computed, Refusal> {
        let left = self.compute(left, span)?;
        let right = self.compute(right, span)?;
        check_constant(operator, right.statements.first()).map_err(|reason| Refusal::new(span, reason))?;
        let mut statements = left.statements;
        statements.extend(right.statements);
        statements.push(Statement::new(LDX | MEM, right.register));
        statements.push(Statement::new(LD | MEM, left.register));
        statements.push(Statement::new(ALU | X | operation_of(operator), 0));
        self.registers.free(left.register);
        self.registers.free(right.register);
        let register = self.register(span)?;
        statements.push(Statement::new(ST, register));
        Ok(Computed { statements, register, guard: left.guard })
    }

    /// `protocol[index:size]`, with the guard that the frame has the protocol.
    fn load(
        &mut self,
        protocol: Protocol,
        index: &Arithmetic,
        size: u32,
        span: Span,
    ) -> Result<Computed, Refusal> {
        let refuse = |reason: &str| Refusal::new(span, reason);
        let index = self.compute(index, span)?;
        let register = self.register(span)?;
        self.registers.free(index.register);
        let size = match size {
            1 => B,
            2 => H,
            4 => W,
            _ => return Err(refuse("1, 2 or 4 bytes can be taken")),
        };
        let (mut statements, inner) = (index.statements, index.guard);
        let mut relative = |base: u32| {
            statements.push(Statement::new(LDX | MEM, index.register));
            statements.push(Statement::new(LD | IND | size, base));
        };
        let guard = match protocol {
            Protocol::Ether => {
                relative(0);
                inner
            }
            Protocol::Ip | Protocol::Ip6 | Protocol::Arp | Protocol::Rarp => {
                relative(self.payload);
                Some(guarded(inner, self.guard(protocol, span)?))
            }
            Protocol::Icmp6 => {
                relative(self.payload + 40);
                let ip6 = guarded(inner, self.guard(Protocol::Ip6, span)?);
                Some(ip6.and(self.payload_byte(6, 58)))
            }
            Protocol::Ah | Protocol::Esp => return Err(refuse("this header cannot be indexed")),
            Protocol::Tcp
            | Protocol::Udp
            | Protocol::Sctp
            | Protocol::Icmp
            | Protocol::Igmp
            | Protocol::Igrp
            | Protocol::Pim
            | Protocol::Vrrp
            | Protocol::Carp => {
                statements.extend(self.transport_load(index.register, size));
                let first = self.guard(protocol, span)?.and(self.first_fragment());
                Some(self.guard(Protocol::Ip, span)?.and(guarded(inner, first)))
            }
        };
        statements.push(Statement::new(ST, register));
        Ok(Computed { statements, register, guard })
    }

    fn guard(&self, protocol: Protocol, span: Span) -> Result<Condition, Refusal> {
        self.protocol(protocol).map_err(|reason| Refusal::new(span, reason))
    }

    /// Relative to the end of the IPv4 header.
    fn transport_load(&self, index: u32, size: u16) -> [Statement; 5] {
        [
            Statement::new(LDX | MSH | B, self.payload),
            Statement::new(LD | MEM, index),
            Statement::new(ALU | ADD | X, 0),
            Statement::new(MISC | TAX, 0),
            Statement::new(LD | IND | size, self.payload),
        ]
    }
}

/// A right side that begins with a constant must not divide by zero or shift everything out.
fn check_constant(operator: Operator, first: Option<&Statement>) -> Result<(), &'static str> {
    let Some(Statement { code: CONSTANT, k }) = first else {
        return Ok(());
    };
    let divides = matches!(operator, Operator::Divide | Operator::Modulo);
    let shifts = matches!(operator, Operator::ShiftLeft | Operator::ShiftRight);
    if divides && *k == 0 {
        Err("divides by zero")
    } else if shifts && *k > 31 {
        Err("shifts by more than 31 bits")
    } else {
        Ok(())
    }
}

const CONSTANT: u16 = LD | IMM;

fn operation_of(operator: Operator) -> u16 {
    match operator {
        Operator::Add => ADD,
        Operator::Subtract => SUB,
        Operator::Multiply => MUL,
        Operator::Divide => DIV,
        Operator::Modulo => MOD,
        Operator::And => AND,
        Operator::Or => OR,
        Operator::Xor => XOR,
        Operator::ShiftLeft => LSH,
        Operator::ShiftRight => RSH,
    }
}
