//! A measured number, and how a child process hands it to its parent.

use std::fmt;

/// One number of one run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Figure {
    /// What to append to the name of the measure ("" or "-p99").
    pub(crate) suffix: String,
    pub(crate) unit: String,
    pub(crate) value: f64,
    /// For rows that have no peers: what the value is held against, by name.
    pub(crate) against: Option<(String, f64)>,
}

impl Figure {
    pub(crate) fn new(suffix: &str, unit: &str, value: f64) -> Self {
        Self {
            suffix: suffix.into(),
            unit: unit.into(),
            value,
            against: None,
        }
    }

    pub(crate) fn against(mut self, name: &str, value: f64) -> Self {
        self.against = Some((name.into(), value));
        self
    }

    /// Reads a line that `Display` wrote; None for any other line.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let mut words = line.strip_prefix("figure ")?.split(' ');
        let suffix = words.next()?.trim_start_matches('_').to_owned();
        let unit = words.next()?.to_owned();
        let value = words.next()?.parse().ok()?;
        let against = match (words.next(), words.next()) {
            (Some(name), Some(value)) => Some((name.to_owned(), value.parse().ok()?)),
            _ => None,
        };
        Some(Self {
            suffix,
            unit,
            value,
            against,
        })
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "figure _{} {} {}", self.suffix, self.unit, self.value)?;
        if let Some((name, value)) = &self.against {
            write!(f, " {name} {value}")?;
        }
        Ok(())
    }
}

/// The value that `percent` of the samples do not exceed. Sorts them. Panics if there are none.
pub(crate) fn percentile(samples: &mut [f64], percent: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    let part = percent / 100.0 * samples.len() as f64;
    let rank = (1..samples.len()).find(|&rank| rank as f64 >= part);
    samples[rank.unwrap_or(samples.len()) - 1]
}

pub(crate) fn median(samples: &mut [f64]) -> f64 {
    percentile(samples, 50.0)
}
