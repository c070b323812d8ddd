//! The parameters of requests.

use std::time::Duration;

use examples::query::Query;
use rusqlite::types::Value;

const SLOW_MS: u64 = 100;
const SLOW_MS_MAX: u64 = 60_000;

/// `/query?sql=SELECT...&after=5`.
#[derive(Debug, PartialEq)]
pub struct Sql {
    pub text: String,
    /// The first value of `:after`.
    pub after: Value,
}

impl Sql {
    /// Parses percent-encoded parameters, in which `+` is a space.
    pub fn parse(query: &str) -> Result<Self, String> {
        let (mut text, mut after) = (None, None);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let slot = match &*name {
                "sql" => &mut text,
                "after" => &mut after,
                _ => return Err(format!("parameter not known: {name:?}")),
            };
            if slot.replace(value.into_owned()).is_some() {
                return Err(format!("parameter given twice: {name:?}"));
            }
        }
        let text = text.filter(|text| !text.trim().is_empty());
        // SQLite would ignore the rest of the text.
        if text.as_ref().is_some_and(|text| text.contains('\0')) {
            return Err("sql has a zero byte".to_owned());
        }
        Ok(Self {
            text: text.ok_or("sql is missing: /query?sql=SELECT+count(*)+FROM+item")?,
            // Not greater than any integer.
            after: after.map_or(Value::Integer(i64::MIN), |after| match after.parse() {
                Ok(number) => Value::Integer(number),
                Err(_) => Value::Text(after),
            }),
        })
    }
}

/// `/slow?ms=100`.
pub fn slow_time(query: &str) -> Result<Duration, String> {
    let mut query = Query::new(query);
    let ms = query.take_number("ms", SLOW_MS, 1..=SLOW_MS_MAX)?;
    query.finish()?;
    Ok(Duration::from_millis(ms))
}

/// `/move?to=1`.
pub fn loop_number(query: &str, loops: usize) -> Result<usize, String> {
    let mut query = Query::new(query);
    let number = query.take_number("to", 0, 0..=loops - 1)?;
    query.finish()?;
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_decoded() {
        let sql = Sql::parse("sql=SELECT+%27%C3%A4%2B%27&after=7").expect("two parameters");
        assert_eq!(sql.text, "SELECT 'ä+'");
        assert_eq!(sql.after, Value::Integer(7));
        let sql = Sql::parse("after=&sql=x").expect("two parameters");
        assert_eq!(sql.after, Value::Text(String::new()));
    }

    #[test]
    fn a_wrong_parameter_is_named() {
        for (query, named) in [
            ("", "sql is missing"),
            ("sql=", "sql is missing"),
            ("sql=+%20", "sql is missing"),
            ("sql=SELECT+1%00+FROM+x", "zero byte"),
            ("sql=a&sql=b", "twice: \"sql\""),
            ("sql=a&limit=5", "not known: \"limit\""),
        ] {
            let why = Sql::parse(query).expect_err(query);
            assert!(why.contains(named), "{why}");
        }
        assert!(slow_time("ms=0").is_err());
        assert!(loop_number("to=2", 2).is_err());
        assert_eq!(loop_number("to=1", 2), Ok(1));
    }
}
