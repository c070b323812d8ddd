//! The numbers in a request's query: `chunks=100&size=1024`.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Takes parameters out one by one; a parameter that was not taken is an error in the end,
/// so that a misspelt name is not ignored.
#[derive(Debug)]
pub struct Query<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Query<'a> {
    pub fn new(query: &'a str) -> Self {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .collect(),
        )
    }

    /// The whole number called `name`, or `default` if it is not there.
    pub fn take_number<N>(&mut self, name: &str, default: N, range: RangeInclusive<N>) -> Result<N, String>
    where
        N: FromStr + PartialOrd + Display,
    {
        self.take("a whole number", name, default, range)
    }

    /// The decimal number called `name`, or `default` if it is not there. No range has NaN in it.
    pub fn take_decimal(
        &mut self,
        name: &str,
        default: f64,
        range: RangeInclusive<f64>,
    ) -> Result<f64, String> {
        self.take("a number", name, default, range)
    }

    fn take<N>(&mut self, kind: &str, name: &str, default: N, range: RangeInclusive<N>) -> Result<N, String>
    where
        N: FromStr + PartialOrd + Display,
    {
        let Some(position) = self.0.iter().position(|(key, _)| *key == name) else {
            return Ok(default);
        };
        let (_, value) = self.0.remove(position);
        match value.parse() {
            Ok(number) if range.contains(&number) => Ok(number),
            _ => Err(format!(
                "{name} must be {kind} from {} to {}",
                range.start(),
                range.end()
            )),
        }
    }

    pub fn finish(self) -> Result<(), String> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(format!("parameter not known, or given twice: {name:?}")),
        }
    }
}
