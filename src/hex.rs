//! Hexadecimal digits of fixed-length public values. Not for secrets: the lookup is not constant-time.

use std::fmt;

/// Writes two lower-case digits for each byte.
pub(crate) fn write(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// Reads exactly `2 * N` digits of either case; `None` for anything else.
pub(crate) fn parse<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        let &[high, low] = pair else { return None };
        *byte = digit(high)? << 4 | digit(low)?;
    }
    Some(out)
}

/// The value of one digit.
fn digit(ascii: u8) -> Option<u8> {
    let value = char::from(ascii).to_digit(16)?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_cases_are_read_and_nothing_else() {
        assert_eq!(parse("00fF7a"), Some([0x00, 0xff, 0x7a]));
        for wrong in [
            "",
            "00ff7",
            "00ff7a0",
            "00ff7g",
            "+0ff7a",
            "00 f7a",
            "\u{e9}0ff7",
        ] {
            assert_eq!(parse::<3>(wrong), None, "{wrong:?}");
        }
    }
}
