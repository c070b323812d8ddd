//! The command line.

use std::str::FromStr;

pub(crate) const USAGE: &str = "\
cargo bench -p benches --bench peers -- [measure ...] [options]

  measure              told-16, or told for all that begin so; none: all of them
  --quick              all measures in under 4 minutes (a tenth of the work)
  --threads N          workers of each contender (2)
  --rounds N           rounds, interleaved (5)
  --contenders a,b     only these
  --list               the measures and the contenders";

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Args {
    pub(crate) measures: Vec<String>,
    pub(crate) contenders: Vec<String>,
    pub(crate) quick: bool,
    pub(crate) list: bool,
    pub(crate) help: bool,
    pub(crate) threads: usize,
    pub(crate) rounds: usize,
    /// We are a child: run this contender once and print its figures.
    pub(crate) child: Option<String>,
}

impl Args {
    pub(crate) fn parse(words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut args = Self {
            threads: 2,
            rounds: 5,
            ..Self::default()
        };
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                // cargo adds it.
                "--bench" => {}
                "--quick" => args.quick = true,
                "--list" => args.list = true,
                "--help" | "-h" => args.help = true,
                "--threads" => args.threads = value(&word, words.next())?,
                "--rounds" => args.rounds = value(&word, words.next())?,
                "--child" => args.child = Some(value(&word, words.next())?),
                "--contenders" => {
                    let names: String = value(&word, words.next())?;
                    args.contenders = names.split(',').map(str::to_owned).collect();
                }
                option if option.starts_with('-') => return Err(format!("unknown: {option}")),
                _ => args.measures.push(word),
            }
        }
        if args.threads == 0 || args.rounds == 0 {
            return Err("--threads and --rounds start at 1".into());
        }
        Ok(args)
    }
}

fn value<T: FromStr>(option: &str, word: Option<String>) -> Result<T, String> {
    word.and_then(|word| word.parse().ok())
        .ok_or_else(|| format!("{option} needs a value"))
}
