//! Splitting a filter expression into words.
//!
//! As in libpcap's scanner the longest reading wins: `10.0.0.1` is an address, `10-20` a name,
//! `1:2:3:4:5:6` an Ethernet address, `a::2` an IPv6 address. A keyword of the language that is not
//! supported here is refused at once, so that it cannot be mistaken for a name.

use std::net::Ipv6Addr;

use super::error::{Refusal, Span};
use super::syntax::{Operator, Protocol};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    Protocol(Protocol),
    Src,
    Dst,
    Host,
    Net,
    Mask,
    Port,
    PortRange,
    Proto,
    Broadcast,
    Multicast,
    Greater,
    Less,
    Vlan,
    Len,
    And,
    Or,
    Not,
    Number(u32),
    Ipv4 { address: u32, bits: u32 },
    Ipv6(Ipv6Addr),
    Ethernet([u8; 6]),
    Name(String),
    Open,
    Close,
    OpenIndex,
    CloseIndex,
    Colon,
    More,
    MoreEqual,
    Fewer,
    FewerEqual,
    Equal,
    NotEqual,
    Operator(Operator),
}

/// The words of `text` with their places.
pub(super) fn tokenize(text: &str) -> Result<Vec<(Token, Span)>, Refusal> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with([' ', '\t', '\r', '\n']) {
            at += 1;
            continue;
        }
        let (token, length) = next_token(rest, at)?;
        tokens.push((token, Span { start: at, end: at + length }));
        at += length;
    }
    Ok(tokens)
}

/// The first token of `rest` and its length in bytes; `at` is where `rest` starts.
fn next_token(rest: &str, at: usize) -> Result<(Token, usize), Refusal> {
    let word = word_length(rest);
    let colons = colon_run_length(rest);
    if colons > word {
        if let Some(address) = address_with_colons(rest) {
            return Ok((address, colons));
        }
        // `x[1:2]`: one colon after a word is punctuation, more make a malformed address.
        if rest.get(..colons).is_some_and(|run| run.matches(':').count() > 1) {
            return Err(Refusal::new(Span { start: at, end: at + colons }, "not an address"));
        }
    }
    symbol_or_word(rest, word, at)
}

fn symbol_or_word(rest: &str, word: usize, at: usize) -> Result<(Token, usize), Refusal> {
    if let Some(escaped) = rest.strip_prefix('\\') {
        let length = escaped.find([' ', '!', '(', ')', '\n', '\t']).unwrap_or(escaped.len());
        let name = escaped.get(..length).unwrap_or_default();
        let span = Span { start: at, end: at + 1 + length };
        return match name {
            "" => Err(Refusal::new(span, "a name must follow")),
            name => Ok((Token::Name(name.to_owned()), 1 + length)),
        };
    }
    match rest.get(..word) {
        Some(text) if word > 0 => classify(text)
            .map(|token| (token, word))
            .map_err(|reason| Refusal::new(Span { start: at, end: at + word }, reason)),
        _ => symbol(rest).ok_or_else(|| {
            let length = rest.chars().next().map_or(0, char::len_utf8);
            Refusal::new(Span { start: at, end: at + length }, "not a character of the filter language")
        }),
    }
}

/// The length of the word at the start: it begins with a letter or digit and does not end in `-` or `_`.
fn word_length(rest: &str) -> usize {
    if !rest.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return 0;
    }
    let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let run = rest.find(|c| !inside(c)).unwrap_or(rest.len());
    rest.get(..run).map_or(0, |run| run.trim_end_matches(['-', '_']).len())
}

/// The length of the leading run of characters that an IPv6 or Ethernet address can have, if there is
/// a colon in it.
fn colon_run_length(rest: &str) -> usize {
    let run =
        rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, ':' | '.'))).unwrap_or(rest.len());
    match rest.get(..run) {
        Some(text) if text.contains(':') => run,
        _ => 0,
    }
}

/// The leading Ethernet or IPv6 address written with colons.
fn address_with_colons(rest: &str) -> Option<Token> {
    let text = rest.get(..colon_run_length(rest))?;
    let hardware = ethernet(text, ':').map(Token::Ethernet);
    hardware.or_else(|| text.parse().ok().map(Token::Ipv6))
}

/// Six hexadecimal bytes of one or two digits each.
fn ethernet(text: &str, separator: char) -> Option<[u8; 6]> {
    let mut bytes = [0; 6];
    let mut parts = text.split(separator);
    for byte in &mut bytes {
        *byte = hexadecimal(parts.next()?, 1..=2).and_then(|value| u8::try_from(value).ok())?;
    }
    parts.next().is_none().then_some(bytes)
}

/// Twelve hexadecimal digits, plain or as `1234.5678.9abc`.
fn ethernet_digits(text: &str) -> Option<[u8; 6]> {
    let groups: Vec<&str> = if text.len() == 12 {
        vec![text.get(..4)?, text.get(4..8)?, text.get(8..)?]
    } else {
        text.split('.').collect()
    };
    let [first, second, third] = groups.try_into().ok()?;
    let [a, b] = group(first)?;
    let [c, d] = group(second)?;
    let [e, f] = group(third)?;
    Some([a, b, c, d, e, f])
}

fn group(text: &str) -> Option<[u8; 2]> {
    hexadecimal(text, 4..=4).and_then(|value| u16::try_from(value).ok()).map(u16::to_be_bytes)
}

fn hexadecimal(text: &str, digits: std::ops::RangeInclusive<usize>) -> Option<u32> {
    let plain = digits.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    plain.then(|| u32::from_str_radix(text, 16).ok()).flatten()
}

/// What a word of letters, digits, `-`, `_` and `.` is.
fn classify(word: &str) -> Result<Token, String> {
    if let Some(token) = super::keyword::lookup(word)? {
        return Ok(token);
    }
    let hardware = ethernet(word, '-').or_else(|| ethernet(word, '.')).or_else(|| ethernet_digits(word));
    if let Some(bytes) = hardware {
        return Ok(Token::Ethernet(bytes));
    }
    if is_number(word) {
        return number(word).map(Token::Number);
    }
    let parts: Vec<&str> = word.split('.').collect();
    if (2..=4).contains(&parts.len()) && parts.iter().all(|part| is_number(part)) {
        return ipv4(&parts);
    }
    Ok(Token::Name(word.to_owned()))
}

fn is_number(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    digits(text) || hex.is_some_and(|hex| !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// A number as in C: decimal, `0x` hexadecimal, or octal after a `0`.
fn number(text: &str) -> Result<u32, String> {
    let (digits, radix) = match text.strip_prefix('0') {
        Some(hex) if hex.starts_with(['x', 'X']) => (hex.get(1..).unwrap_or_default(), 16),
        Some("") | None => (text, 10),
        Some(octal) => (octal, 8),
    };
    if radix == 8 && digits.contains(['8', '9']) {
        return Err("a number that starts with 0 is octal and has no 8 or 9".to_owned());
    }
    u32::from_str_radix(digits, radix).map_err(|_| "the number needs more than 32 bits".to_owned())
}

/// Two to four decimal bytes; here a leading zero does not mean octal.
fn ipv4(parts: &[&str]) -> Result<Token, String> {
    let mut address = 0;
    for part in parts {
        let byte: u8 = part.parse().map_err(|_| "not an IPv4 address".to_owned())?;
        address = address << 8 | u32::from(byte);
    }
    // At most four parts of eight bits.
    let bits = 8 * parts.len() as u32;
    Ok(Token::Ipv4 { address: address << (32 - bits), bits })
}

fn symbol(rest: &str) -> Option<(Token, usize)> {
    const SYMBOLS: [(&str, Token); 25] = [
        ("&&", Token::And),
        ("||", Token::Or),
        (">=", Token::MoreEqual),
        ("<=", Token::FewerEqual),
        ("!=", Token::NotEqual),
        ("==", Token::Equal),
        ("<<", Token::Operator(Operator::ShiftLeft)),
        (">>", Token::Operator(Operator::ShiftRight)),
        ("!", Token::Not),
        ("(", Token::Open),
        (")", Token::Close),
        ("[", Token::OpenIndex),
        ("]", Token::CloseIndex),
        (":", Token::Colon),
        (">", Token::More),
        ("<", Token::Fewer),
        ("=", Token::Equal),
        ("+", Token::Operator(Operator::Add)),
        ("-", Token::Operator(Operator::Subtract)),
        ("*", Token::Operator(Operator::Multiply)),
        ("/", Token::Operator(Operator::Divide)),
        ("%", Token::Operator(Operator::Modulo)),
        ("&", Token::Operator(Operator::And)),
        ("|", Token::Operator(Operator::Or)),
        ("^", Token::Operator(Operator::Xor)),
    ];
    let found = SYMBOLS.iter().find(|(text, _)| rest.starts_with(text));
    found.map(|(text, token)| (token.clone(), text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<Token> {
        tokenize(text).unwrap().into_iter().map(|(token, _)| token).collect()
    }

    fn name(text: &str) -> Token {
        Token::Name(text.to_owned())
    }

    #[test]
    fn the_longest_reading_wins() {
        let mac = Token::Ethernet([1, 2, 3, 4, 5, 0xa]);
        assert_eq!(tokens("1:2:3:4:5:a 1-2-3-4-5-a 1.2.3.4.5.a"), [mac.clone(), mac.clone(), mac.clone()]);
        assert_eq!(tokens("01020304050a 0102.0304.050a"), [mac.clone(), mac]);
        assert_eq!(tokens("a::2"), [Token::Ipv6("a::2".parse().unwrap())]);
        assert_eq!(tokens("10-20 tcp-syns tcp1"), [name("10-20"), name("tcp-syns"), name("tcp1")]);
        assert_eq!(tokens("10.1."), [name("10.1.")]);
        assert_eq!(tokens("10.1"), [Token::Ipv4 { address: 0x0a01_0000, bits: 16 }]);
    }

    #[test]
    fn one_colon_is_punctuation() {
        let expected =
            [Token::OpenIndex, Token::Number(0), Token::Colon, Token::Number(2), Token::CloseIndex];
        assert_eq!(tokens("[0:2]"), expected);
        assert!(tokenize("0:1:2").is_err());
    }

    #[test]
    fn numbers_are_those_of_c() {
        let numbers = tokens("10 0x1F 017 0 4294967295").into_iter();
        assert!(numbers.eq([10, 31, 15, 0, u32::MAX].map(Token::Number)));
        for bad in ["08", "0x100000000", "4294967296"] {
            assert!(tokenize(bad).is_err(), "{bad}");
        }
        assert_eq!(tokens("0x"), [name("0x")]);
    }

    #[test]
    fn symbols_and_escapes_need_no_spaces() {
        let expected = [Token::Not, Token::Open, name("tcp"), Token::Close, Token::And, Token::NotEqual];
        assert_eq!(tokens("!(\\tcp)&&!="), expected);
        assert!(tokenize("\\").is_err());
    }
}
