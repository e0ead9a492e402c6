//! The figures as text: what one server cost in one round, and all of them beside ours.

use std::fmt::{self, Write as _};

/// What a server cost in one round.
#[derive(Debug, Default, Clone, Copy)]
pub struct Costs {
    /// Bytes of an idle connection.
    pub memory: f64,
    /// Seconds of CPU for a new connection that is ready to talk.
    pub setup: f64,
    /// Seconds of CPU for a relayed message.
    pub message: f64,
    /// Messages relayed in a second.
    pub per_second: f64,
    /// Seconds that one message in a hundred exceeds while everybody talks. `None` where it was not measured.
    pub p99: Option<f64>,
}

impl fmt::Display for Costs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micro = 1e6;
        write!(f, "{:.0} B a connection", self.memory)?;
        write!(f, ", {:.1} us to set it up", self.setup * micro)?;
        write!(f, ", {:.2} us a message", self.message * micro)?;
        write!(f, ", {:.0} messages/s", self.per_second)?;
        match self.p99 {
            Some(p99) => write!(f, ", p99 {:.1} ms", p99 * 1e3),
            None => write!(f, ", p99 not measured"),
        }
    }
}

type Column = (&'static str, fn(&Costs) -> Option<f64>);

const COLUMNS: [Column; 4] = [
    ("memory of an idle connection", |costs| Some(costs.memory)),
    ("CPU of a new connection", |costs| Some(costs.setup)),
    ("CPU of a message", |costs| Some(costs.message)),
    ("saturated p99", |costs| costs.p99),
];

/// Each server as multiples of the first one, as medians of the rounds; and the bytes of an idle connection.
pub fn tables(servers: &[(&str, Vec<Costs>)]) -> String {
    let mut out = String::from("| server | bytes of an idle connection |");
    for (title, _) in COLUMNS {
        let _ = write!(out, " {title} |");
    }
    out.push_str("\n|---|---|---|---|---|---|\n");
    let Some((_, first)) = servers.first() else {
        return out;
    };
    for (name, costs) in servers {
        let bytes = median(costs.iter().map(|costs| costs.memory).collect());
        let _ = write!(out, "| {name} | {bytes:.0} |");
        for (_, column) in COLUMNS {
            let ratios = costs.iter().zip(first);
            let ratios = ratios.filter_map(|(costs, first)| Some(column(costs)? / column(first)?));
            let _ = write!(out, " {} |", spread(ratios.collect()));
        }
        out.push('\n');
    }
    out
}

/// The median, and the range it comes from.
fn spread(ratios: Vec<f64>) -> String {
    if ratios.is_empty() {
        return "–".to_owned();
    }
    let (low, high) = ratios
        .iter()
        .fold((f64::MAX, f64::MIN), |(low, high), &ratio| {
            (low.min(ratio), high.max(ratio))
        });
    format!("{:.2} [{low:.2} to {high:.2}]", median(ratios))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
