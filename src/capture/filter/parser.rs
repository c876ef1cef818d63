//! From words to a syntax tree, with the grammar of libpcap's `grammar.y`.
//!
//! Three of its habits need care. `and` and `or` have one precedence. A bare value may follow them and
//! takes over the qualifiers of the test before it: `tcp port 80 or 81`. And what stands in parentheses
//! may be a test, values, or a number that arithmetic goes on with, which shows only later; so an operand
//! is parsed first and its [`Operand`] class decides what may follow.

use super::error::{Refusal, Span};
use super::lexer::Token;
use super::syntax::*;

/// Nesting of parentheses, `not`, arithmetic and indices that is accepted.
const MAX_DEPTH: usize = 64;

/// The words an expression may have; about as many tests fit into a program.
const MAX_TOKENS: usize = 4096;

type Carried = Option<Qualifiers>;

/// Which operands the place allows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// At the start of an expression: no bare values.
    Test,
    /// After `and` and `or`.
    TestOrValue,
    /// After qualifiers: values only.
    Value,
}

/// What was parsed, as far as it is known before looking further.
enum Operand {
    Number(u32, Span),
    Arithmetic(Arithmetic, Span),
    /// A value or several, not in parentheses.
    Value(Expression),
    /// Values in parentheses, which libpcap's grammar does not take in a second pair.
    Enclosed(Expression, Span),
    /// A whole test, with the qualifiers it leaves for bare values.
    Test(Expression, Carried),
}

/// Parses a whole expression; `None` when it is empty.
pub(super) fn parse(tokens: &[(Token, Span)], length: usize) -> Result<Option<Expression>, Refusal> {
    if tokens.is_empty() {
        return Ok(None);
    }
    if let Some((_, span)) = tokens.get(MAX_TOKENS) {
        return Err(Refusal::new(*span, format!("the expression has more than {MAX_TOKENS} words")));
    }
    let mut parser = Parser { tokens, next: 0, depth: 0, end: Span { start: length, end: length } };
    let (expression, _) = parser.chain(None)?;
    match parser.peek() {
        None => Ok(Some(expression)),
        Some(_) => Err(parser.unexpected("'and', 'or' or the end was expected")),
    }
}

struct Parser<'a> {
    tokens: &'a [(Token, Span)],
    next: usize,
    depth: usize,
    end: Span,
}

/// `and`, `or`, `not` and parentheses.
impl Parser<'_> {
    /// `operand { (and | or) operand }`, starting with a test.
    fn chain(&mut self, carried: Carried) -> Result<(Expression, Carried), Refusal> {
        let start = self.span();
        let (first, carried) = match self.operand(carried, Place::Test)? {
            Operand::Test(test, carried) => (test, carried),
            _ => return Err(Refusal::new(start, NO_QUALIFIER)),
        };
        self.chain_after(first, carried)
    }

    /// The rest of a chain whose first test is parsed.
    fn chain_after(&mut self, first: Expression, carried: Carried) -> Result<(Expression, Carried), Refusal> {
        let (mut rest, mut carried) = (Vec::new(), carried);
        while let Some(junction) = self.junction() {
            let expression;
            (expression, carried) = match self.operand(carried, Place::TestOrValue)? {
                Operand::Test(test, carried) => (test, carried),
                value => (self.value_of(value, carried)?, carried),
            };
            rest.push((junction, expression));
        }
        Ok((chained(first, rest), carried))
    }

    /// Values joined after the first, inside parentheses: `(80 or 443)`.
    fn values_after(&mut self, first: Operand, carried: Carried) -> Result<Expression, Refusal> {
        let first = self.value_of(first, carried)?;
        let mut rest = Vec::new();
        while let Some(junction) = self.junction() {
            let value = self.operand(carried, Place::Value)?;
            rest.push((junction, self.value_of(value, carried)?));
        }
        Ok(chained(first, rest))
    }

    fn junction(&mut self) -> Option<Junction> {
        let junction = match self.peek()? {
            Token::And => Junction::And,
            Token::Or => Junction::Or,
            _ => return None,
        };
        self.next += 1;
        Some(junction)
    }

    fn operand(&mut self, carried: Carried, place: Place) -> Result<Operand, Refusal> {
        let span = self.span();
        self.enter()?;
        let operand = match self.peek() {
            Some(Token::Not) => {
                self.next += 1;
                match self.operand(carried, place)? {
                    Operand::Test(test, carried) => Operand::Test(Expression::Not(Box::new(test)), carried),
                    value => Operand::Value(Expression::Not(Box::new(self.value_of(value, carried)?))),
                }
            }
            Some(Token::Open) => {
                self.next += 1;
                let inside = self.parenthesized(carried, place)?;
                self.expect(&Token::Close, "')' was expected")?;
                self.relation_after(inside, place, span)?
            }
            Some(token) if is_value(token) => self.value(carried, place)?,
            Some(_) if place != Place::Value => self.test()?,
            _ => return Err(self.unexpected("a value was expected")),
        };
        self.depth -= 1;
        Ok(operand)
    }

    /// What stands between `(` and `)`.
    fn parenthesized(&mut self, carried: Carried, place: Place) -> Result<Operand, Refusal> {
        let start = self.span();
        let first = self.operand(carried, place)?;
        let joined = matches!(self.peek(), Some(Token::And | Token::Or));
        match first {
            Operand::Test(test, inner) => {
                let (expression, _) = self.chain_after(test, inner)?;
                Ok(Operand::Test(expression, carried))
            }
            Operand::Enclosed(..) => {
                Err(Refusal::new(start, "values in two pairs of parentheses are not in the language"))
            }
            Operand::Number(..) | Operand::Arithmetic(..) if !joined => Ok(first),
            _ if place == Place::Test => Err(Refusal::new(start, NO_QUALIFIER)),
            first => {
                let values = self.values_after(first, carried)?;
                Ok(Operand::Enclosed(values, start.to(self.last_span())))
            }
        }
    }

    /// Makes a number or value an expression under the `carried` qualifiers.
    fn value_of(&self, operand: Operand, carried: Carried) -> Result<Expression, Refusal> {
        match operand {
            Operand::Number(number, span) => {
                let qualifiers = carried.ok_or_else(|| Refusal::new(span, NO_QUALIFIER))?;
                Ok(Expression::Test(Test::Value(qualifiers, Value::Number(number)), span))
            }
            Operand::Value(value) | Operand::Enclosed(value, _) => Ok(value),
            Operand::Arithmetic(_, span) => Err(Refusal::new(span, "a comparison was expected behind it")),
            Operand::Test(..) => Err(self.unexpected("a value was expected")),
        }
    }
}

const NO_QUALIFIER: &str = "a bare value needs 'host', 'net', 'port' or the like before it";

fn chained(first: Expression, rest: Vec<(Junction, Expression)>) -> Expression {
    if rest.is_empty() { first } else { Expression::Chain(Box::new(first), rest) }
}

fn is_value(token: &Token) -> bool {
    matches!(
        token,
        Token::Number(_) | Token::Ipv4 { .. } | Token::Ipv6(_) | Token::Ethernet(_) | Token::Name(_)
    )
}

/// Values and single tests.
impl Parser<'_> {
    fn value(&mut self, carried: Carried, place: Place) -> Result<Operand, Refusal> {
        let start = self.span();
        let value = match self.take() {
            Some(Token::Number(number)) => {
                return self.relation_after(Operand::Number(number, start), place, start);
            }
            Some(Token::Ipv4 { address, bits }) => self.ipv4_after(address, bits)?,
            Some(Token::Ipv6(network)) => {
                let length =
                    if self.accept(&Token::Operator(Operator::Divide)) { self.number()? } else { 128 };
                Value::Ipv6 { network, length }
            }
            Some(Token::Ethernet(address)) => Value::Ethernet(address),
            Some(Token::Name(name)) => Value::Name(name),
            _ => return Err(Refusal::new(start, "a value was expected")),
        };
        let span = start.to(self.last_span());
        match carried {
            Some(qualifiers) if place != Place::Test => {
                Ok(Operand::Value(Expression::Test(Test::Value(qualifiers, value), span)))
            }
            _ => Err(Refusal::new(span, NO_QUALIFIER)),
        }
    }

    fn ipv4_after(&mut self, network: u32, bits: u32) -> Result<Value, Refusal> {
        if self.accept(&Token::Operator(Operator::Divide)) {
            return Ok(Value::Ipv4Prefix { network, length: self.number()? });
        }
        if !self.accept(&Token::Mask) {
            return Ok(Value::Ipv4 { address: network, bits });
        }
        match self.take() {
            Some(Token::Ipv4 { address: mask, .. }) => Ok(Value::Ipv4Mask { network, mask }),
            _ => Err(self.refuse_last("a mask as 255.255.0.0 was expected")),
        }
    }

    /// Anything that begins with a keyword.
    fn test(&mut self) -> Result<Operand, Refusal> {
        let start = self.span();
        let test = match self.peek() {
            Some(Token::Len | Token::Operator(Operator::Subtract)) => {
                let left = self.arithmetic_operand()?;
                return self.relation_after(left, Place::Test, start);
            }
            Some(Token::Greater) => self.skip_then(|parser| parser.number().map(Test::Greater))?,
            Some(Token::Less) => self.skip_then(|parser| parser.number().map(Test::Less))?,
            Some(Token::Vlan) => self.skip_then(|parser| parser.optional_number().map(Test::Vlan))?,
            _ => return self.test_of_protocol(),
        };
        Ok(Operand::Test(Expression::Test(test, start.to(self.last_span())), None))
    }

    /// `tcp`, `tcp[13]`, `ether broadcast`, or qualifiers and what they belong to.
    fn test_of_protocol(&mut self) -> Result<Operand, Refusal> {
        let start = self.span();
        let protocol = match self.peek() {
            Some(Token::Protocol(protocol)) => Some(*protocol),
            _ => None,
        };
        if protocol.is_some() {
            self.next += 1;
        }
        let test = match (self.peek(), protocol) {
            (Some(Token::OpenIndex), Some(protocol)) => {
                let load = self.load(protocol, start)?;
                return self.relation_after(load, Place::Test, start);
            }
            (Some(Token::Broadcast), _) => self.skip_then(|_| Ok(Test::Broadcast(protocol)))?,
            (Some(Token::Multicast), _) => self.skip_then(|_| Ok(Test::Multicast(protocol)))?,
            (Some(token), _) if begins_qualifier(token) => return self.qualified(protocol),
            (_, Some(protocol)) => Test::Protocol(protocol),
            _ => return Err(self.unexpected("a test was expected")),
        };
        Ok(Operand::Test(Expression::Test(test, start.to(self.last_span())), None))
    }

    /// Direction and kind, then values.
    fn qualified(&mut self, protocol: Option<Protocol>) -> Result<Operand, Refusal> {
        let direction = self.direction()?;
        let kind = self.kind(direction.is_none());
        let qualifiers = Qualifiers { protocol, direction, kind };
        let operand = self.operand(Some(qualifiers), Place::Value)?;
        Ok(Operand::Test(self.value_of(operand, Some(qualifiers))?, Some(qualifiers)))
    }

    fn direction(&mut self) -> Result<Option<Direction>, Refusal> {
        let (first, other) = match self.peek() {
            Some(Token::Src) => (Direction::Src, Token::Dst),
            Some(Token::Dst) => (Direction::Dst, Token::Src),
            _ => return Ok(None),
        };
        self.next += 1;
        let both = match self.junction() {
            None => return Ok(Some(first)),
            Some(Junction::Or) => Direction::SrcOrDst,
            Some(Junction::And) => Direction::SrcAndDst,
        };
        self.expect(&other, "the other direction was expected")?;
        Ok(Some(both))
    }

    fn kind(&mut self, may_be_proto: bool) -> Option<Kind> {
        let kind = match self.peek()? {
            Token::Host => Kind::Host,
            Token::Net => Kind::Net,
            Token::Port => Kind::Port,
            Token::PortRange => Kind::PortRange,
            Token::Proto if may_be_proto => Kind::Proto,
            _ => return None,
        };
        self.next += 1;
        Some(kind)
    }
}

fn begins_qualifier(token: &Token) -> bool {
    matches!(
        token,
        Token::Src | Token::Dst | Token::Host | Token::Net | Token::Port | Token::PortRange | Token::Proto
    )
}

/// Comparisons and arithmetic.
impl Parser<'_> {
    /// Goes on with arithmetic and a comparison when the operand is a number and they follow.
    fn relation_after(&mut self, left: Operand, place: Place, start: Span) -> Result<Operand, Refusal> {
        if place == Place::Value || !matches!(left, Operand::Number(..) | Operand::Arithmetic(..)) {
            return Ok(left);
        }
        let left = self.arithmetic_after(left, None)?;
        let Some(comparison) = self.comparison() else {
            return Ok(left);
        };
        let right = self.arithmetic_operand()?;
        let right = self.arithmetic_after(right, None)?;
        let relation = Test::Relation(comparison, arithmetic(left)?, arithmetic(right)?);
        Ok(Operand::Test(Expression::Test(relation, start.to(self.last_span())), None))
    }

    fn comparison(&mut self) -> Option<Comparison> {
        let comparison = match self.peek()? {
            Token::More => Comparison::Greater,
            Token::MoreEqual => Comparison::GreaterEqual,
            Token::Fewer => Comparison::Less,
            Token::FewerEqual => Comparison::LessEqual,
            Token::Equal => Comparison::Equal,
            Token::NotEqual => Comparison::NotEqual,
            _ => return None,
        };
        self.next += 1;
        Some(comparison)
    }

    /// Binary operators behind `left`, as long as they bind tighter than the one before it.
    fn arithmetic_after(&mut self, left: Operand, before: Option<u8>) -> Result<Operand, Refusal> {
        let (mut left, depth) = (left, self.depth);
        while let Some(&Token::Operator(operator)) = self.peek() {
            let precedence = operator.precedence();
            if matches!((before, precedence), (Some(before), Some(this)) if this <= before) {
                break;
            }
            self.enter()?;
            self.next += 1;
            let right = self.arithmetic_operand()?;
            let right = self.arithmetic_after(right, precedence)?;
            let span = span_of(&left).to(self.last_span());
            let (a, b) = (Box::new(arithmetic(left)?), Box::new(arithmetic(right)?));
            left = Operand::Arithmetic(Arithmetic::Binary { operator, left: a, right: b, span }, span);
        }
        self.depth = depth;
        Ok(left)
    }

    /// A number, a load, `len`, a negation, or arithmetic in parentheses.
    fn arithmetic_operand(&mut self) -> Result<Operand, Refusal> {
        let start = self.span();
        self.enter()?;
        let operand = match self.take() {
            Some(Token::Number(number)) => Operand::Number(number, start),
            Some(Token::Len) => Operand::Arithmetic(Arithmetic::Length, start),
            Some(Token::Operator(Operator::Subtract)) => {
                let operand = self.arithmetic_operand()?;
                let operand = self.arithmetic_after(operand, Some(UNARY_PRECEDENCE))?;
                let span = start.to(self.last_span());
                Operand::Arithmetic(Arithmetic::Negate(Box::new(arithmetic(operand)?)), span)
            }
            Some(Token::Protocol(protocol)) => self.load(protocol, start)?,
            Some(Token::Open) => {
                let inside = self.arithmetic_operand()?;
                let inside = self.arithmetic_after(inside, None)?;
                self.expect(&Token::Close, "')' was expected")?;
                inside
            }
            _ => return Err(self.refuse_last("a number was expected")),
        };
        self.depth -= 1;
        Ok(operand)
    }

    /// `[index]` or `[index:size]` behind a protocol that began at `start`.
    fn load(&mut self, protocol: Protocol, start: Span) -> Result<Operand, Refusal> {
        self.expect(&Token::OpenIndex, "'[' was expected")?;
        let index = self.arithmetic_operand()?;
        let index = Box::new(arithmetic(self.arithmetic_after(index, None)?)?);
        let size = if self.accept(&Token::Colon) { self.number()? } else { 1 };
        self.expect(&Token::CloseIndex, "']' was expected")?;
        let span = start.to(self.last_span());
        Ok(Operand::Arithmetic(Arithmetic::Load { protocol, index, size, span }, span))
    }

    /// A number, if one follows, perhaps in parentheses.
    fn optional_number(&mut self) -> Result<Option<u32>, Refusal> {
        match self.peek() {
            Some(Token::Number(_)) => self.number().map(Some),
            Some(Token::Open) => {
                self.next += 1;
                self.enter()?;
                let number = self.optional_number()?;
                self.expect(&Token::Close, "')' was expected")?;
                self.depth -= 1;
                number.map(Some).ok_or_else(|| self.refuse_last("a number was expected"))
            }
            _ => Ok(None),
        }
    }

    fn number(&mut self) -> Result<u32, Refusal> {
        match self.take() {
            Some(Token::Number(number)) => Ok(number),
            _ => Err(self.refuse_last("a number was expected")),
        }
    }
}

fn arithmetic(operand: Operand) -> Result<Arithmetic, Refusal> {
    match operand {
        Operand::Number(number, _) => Ok(Arithmetic::Number(number)),
        Operand::Arithmetic(arithmetic, _) => Ok(arithmetic),
        other => Err(Refusal::new(span_of(&other), "a number was expected")),
    }
}

fn span_of(operand: &Operand) -> Span {
    match operand {
        Operand::Number(_, span) | Operand::Arithmetic(_, span) | Operand::Enclosed(_, span) => *span,
        Operand::Value(expression) | Operand::Test(expression, _) => expression.span(),
    }
}

/// The word at hand.
impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next).map(|(token, _)| token)
    }

    fn span(&self) -> Span {
        self.tokens.get(self.next).map_or(self.end, |(_, span)| *span)
    }

    /// The place of the word taken last, or of the end once all are taken.
    fn last_span(&self) -> Span {
        let last = self.next.checked_sub(1).and_then(|last| self.tokens.get(last));
        last.map_or(self.end, |(_, span)| *span)
    }

    fn take(&mut self) -> Option<Token> {
        let token = self.peek().cloned();
        self.next += 1;
        token
    }

    fn accept(&mut self, token: &Token) -> bool {
        let found = self.peek() == Some(token);
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, token: &Token, reason: &str) -> Result<(), Refusal> {
        if self.accept(token) { Ok(()) } else { Err(self.unexpected(reason)) }
    }

    /// Skips the word at hand and builds a test from what follows.
    fn skip_then(&mut self, build: impl FnOnce(&mut Self) -> Result<Test, Refusal>) -> Result<Test, Refusal> {
        self.next += 1;
        build(self)
    }

    fn enter(&mut self) -> Result<(), Refusal> {
        self.depth += 1;
        if self.depth > MAX_DEPTH { Err(self.unexpected("nested too deeply")) } else { Ok(()) }
    }

    fn unexpected(&self, reason: &str) -> Refusal {
        Refusal::new(self.span(), reason)
    }

    fn refuse_last(&self, reason: &str) -> Refusal {
        Refusal::new(self.last_span(), reason)
    }
}

#[cfg(test)]
mod tests {
    use super::super::lexer::tokenize;
    use super::*;

    fn tree(text: &str) -> Option<Expression> {
        parse(&tokenize(text).unwrap(), text.len()).ok().flatten()
    }

    /// The tree in one line: `[a & b | c]` from the left, `!x`, values with their kind.
    fn shape(expression: &Expression) -> String {
        match expression {
            Expression::Chain(first, rest) => {
                let part = |(junction, next): &(Junction, Expression)| {
                    format!(" {} {}", if *junction == Junction::And { '&' } else { '|' }, shape(next))
                };
                format!("[{}{}]", shape(first), rest.iter().map(part).collect::<String>())
            }
            Expression::Not(inner) => format!("!{}", shape(inner)),
            Expression::Test(Test::Value(qualifiers, Value::Number(number)), _) => {
                format!("{:?}={number}", qualifiers.kind.unwrap())
            }
            Expression::Test(Test::Protocol(protocol), _) => format!("{protocol:?}"),
            Expression::Test(test, _) => format!("{test:?}"),
        }
    }

    #[test]
    fn and_and_or_bind_alike_and_not_binds_tighter() {
        for (text, expected) in [
            ("ip or tcp and udp", "[Ip | Tcp & Udp]"),
            ("not ip and tcp", "[!Ip & Tcp]"),
            ("not (ip and tcp) or udp", "[![Ip & Tcp] | Udp]"),
            ("ip or (tcp and udp)", "[Ip | [Tcp & Udp]]"),
        ] {
            assert_eq!(shape(&tree(text).unwrap()), expected);
        }
    }

    #[test]
    fn bare_values_take_over_the_qualifiers_before_them() {
        for (text, expected) in [
            ("port 1 or 2 and not 3", "[Port=1 | Port=2 & !Port=3]"),
            ("port (1 or 2) and ip", "[[Port=1 | Port=2] & Ip]"),
            ("port 1 and (2 or 3)", "[Port=1 & [Port=2 | Port=3]]"),
            ("port 1 and (ip) and 2", "[Port=1 & Ip & Port=2]"),
            ("port 1 and (net 4 or 5) and 2", "[Port=1 & [Net=4 | Net=5] & Port=2]"),
            ("port not 1", "!Port=1"),
        ] {
            assert_eq!(shape(&tree(text).unwrap()), expected, "{text}");
        }
        for refused in ["1", "ip and 1", "port 1 and ip and 2", "port 1 and (ip or 2)", "port ((1 or 2))"] {
            assert_eq!(tree(refused), None, "{refused}");
        }
    }

    #[test]
    fn arithmetic_has_libpcaps_precedence() {
        for (text, same) in [
            ("1 + 2 * 3 = 7", "1 + (2 * 3) = 7"),
            ("8 - 4 - 2 = 2", "(8 - 4) - 2 = 2"),
            ("1 | 2 & 3 << 1 + 1 = 0", "1 | (2 & (3 << (1 + 1))) = 0"),
            ("- 1 + 2 = 1", "(- 1) + 2 = 1"),
            // The two without precedence take all that follows, and are taken by what comes before.
            ("7 % 4 + 2 = 1", "7 % (4 + 2) = 1"),
            ("7 * 4 ^ 2 = 1", "7 * (4 ^ 2) = 1"),
            ("- 7 % 4 = 1", "- (7 % 4) = 1"),
        ] {
            // Without the places, which the parentheses move.
            let strip = |text: &str| {
                let mut plain = format!("{:?}", tree(text).unwrap());
                while let Some(start) = plain.find("Span {") {
                    let length = plain[start..].find('}').unwrap() + 1;
                    plain.replace_range(start..start + length, "_");
                }
                plain
            };
            assert_eq!(strip(text), strip(same), "{text}");
        }
    }
}
