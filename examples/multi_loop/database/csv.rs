//! Writes rows as CSV (RFC 4180): lines end with CR LF, and a value has quotes only if it needs
//! them.

use std::io::Write;

use rusqlite::types::ValueRef;

pub(super) fn push_header<'a>(csv: &mut Vec<u8>, names: impl Iterator<Item = &'a str>) {
    for (index, name) in names.enumerate() {
        separate(csv, index);
        push_text(csv, name.as_bytes());
    }
    end_line(csv, csv.is_empty());
}

/// Adds a value. NULL is empty, and a blob is hexadecimal. Bytes of a text that are not UTF-8
/// become U+FFFD.
pub(super) fn push_value(csv: &mut Vec<u8>, index: usize, value: ValueRef<'_>) {
    separate(csv, index);
    match value {
        ValueRef::Null => {}
        ValueRef::Integer(number) => write!(csv, "{number}").expect("a Vec takes everything"),
        // The shortest text that gives the same number. It has a point or an exponent.
        ValueRef::Real(number) => write!(csv, "{number:?}").expect("a Vec takes everything"),
        ValueRef::Text(text) => push_text(csv, String::from_utf8_lossy(text).as_bytes()),
        ValueRef::Blob(bytes) => {
            for byte in bytes {
                write!(csv, "{byte:02x}").expect("a Vec takes everything");
            }
        }
    }
}

/// Ends a line. An empty line gets quotes, because many readers of CSV skip empty lines.
pub(super) fn end_line(csv: &mut Vec<u8>, is_empty: bool) {
    csv.extend_from_slice(if is_empty { b"\"\"\r\n" } else { b"\r\n" });
}

fn separate(csv: &mut Vec<u8>, index: usize) {
    if index > 0 {
        csv.push(b',');
    }
}

fn push_text(csv: &mut Vec<u8>, text: &[u8]) {
    if !text
        .iter()
        .any(|byte| matches!(byte, b',' | b'"' | b'\r' | b'\n'))
    {
        csv.extend_from_slice(text);
        return;
    }
    csv.push(b'"');
    for byte in text {
        if *byte == b'"' {
            csv.push(b'"');
        }
        csv.push(*byte);
    }
    csv.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_where_they_must_be() {
        let mut csv = Vec::new();
        let values = [
            ValueRef::Text(b"plain"),
            ValueRef::Text(b"a,b"),
            ValueRef::Text(b"a \"b\""),
            ValueRef::Text(b"a\nb"),
            ValueRef::Text(b"\xff,c"),
            ValueRef::Null,
            ValueRef::Integer(-5),
            ValueRef::Real(1.0),
            ValueRef::Blob(&[0, 255]),
        ];
        for (index, value) in values.into_iter().enumerate() {
            push_value(&mut csv, index, value);
        }
        end_line(&mut csv, false);
        let text = String::from_utf8(csv).expect("text");
        assert_eq!(
            text,
            "plain,\"a,b\",\"a \"\"b\"\"\",\"a\nb\",\"\u{fffd},c\",,-5,1.0,00ff\r\n"
        );
    }

    #[test]
    fn a_line_is_never_empty() {
        let mut csv = Vec::new();
        push_header(&mut csv, [""].into_iter());
        push_value(&mut csv, 0, ValueRef::Null);
        end_line(&mut csv, true);
        assert_eq!(csv, b"\"\"\r\n\"\"\r\n");
    }
}
