//! What the server counts, and the text in which Prometheus reads it. Nothing here names a room or an address.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::{farewell::Farewell, guests::Guests};

/// Bounds of the buckets of the relay latency, in microseconds.
const LATENCY: [u64; 10] = [5, 10, 25, 50, 100, 250, 1_000, 5_000, 25_000, 100_000];

/// Why somebody never got as far as an open WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// As many connections as the server may have.
    Connections,
    /// As many connections as one address may have.
    ConnectionsPerAddress,
    /// As many handshakes as there may be at once.
    Handshakes,
    /// The handshake took too long.
    HandshakeTimeout,
    /// The connection or its TLS failed during the handshake.
    HandshakeFailed,
    /// The request was none that can be answered by a WebSocket.
    Http,
    /// The head was too long.
    HeadTooLong,
    /// The origin is not allowed.
    Origin,
    /// No valid token.
    Token,
}

/// Everything that is counted.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    pub(super) accepted: AtomicU64,
    pub(super) opened: AtomicU64,
    pub(super) joins: AtomicU64,
    pub(super) relayed: AtomicU64,
    pub(super) relayed_bytes: AtomicU64,
    /// Messages that waited for a slow reader.
    pub(super) queued: AtomicU64,
    /// The most bytes that ever waited for one client.
    queue_high_water: AtomicU64,
    refused: [AtomicU64; Refused::WORDS.len()],
    closed: [AtomicU64; Farewell::WORDS.len()],
    /// Connections that ended without a close frame.
    pub(super) lost: AtomicU64,
    errors: AtomicU64,
    latency: [AtomicU64; LATENCY.len() + 1],
    latency_sum: AtomicU64,
}

impl Refused {
    const WORDS: [&'static str; 9] = [
        "connections",
        "connections_per_address",
        "handshakes",
        "handshake_timeout",
        "handshake_failed",
        "http",
        "head_too_long",
        "origin",
        "token",
    ];
}

impl Metrics {
    pub(super) fn refuse(&self, why: Refused) {
        self.refused[why as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn close(&self, why: Farewell) {
        self.closed[why.place()].fetch_add(1, Relaxed);
    }

    /// An `error` envelope.
    pub(super) fn error(&self) {
        self.errors.fetch_add(1, Relaxed);
    }

    /// Somebody's queue has so many bytes.
    pub(super) fn queued(&self, bytes: usize) {
        self.queued.fetch_add(1, Relaxed);
        self.queue_high_water.fetch_max(bytes as u64, Relaxed);
    }

    /// A message of `bytes` was handed on, so long after it was read.
    pub(super) fn relayed(&self, bytes: usize, after: Duration) {
        self.relayed.fetch_add(1, Relaxed);
        self.relayed_bytes.fetch_add(bytes as u64, Relaxed);
        let microseconds = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        let place = LATENCY.partition_point(|bound| *bound < microseconds);
        self.latency[place].fetch_add(1, Relaxed);
        let nanoseconds = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        self.latency_sum.fetch_add(nanoseconds, Relaxed);
    }

    /// The text exposition format of Prometheus, version 0.0.4.
    pub(super) fn render(&self, guests: &Guests) -> String {
        let mut out = String::with_capacity(4 << 10);
        gauge(
            &mut out,
            "connections",
            "Connections, those in the handshake included.",
            guests.connections() as u64,
        );
        gauge(
            &mut out,
            "rooms",
            "Rooms with members.",
            guests.rooms() as u64,
        );
        gauge(
            &mut out,
            "addresses",
            "Addresses with connections or rooms.",
            guests.addresses() as u64,
        );
        gauge(
            &mut out,
            "queue_high_water_bytes",
            "The most bytes that ever waited for one client.",
            self.queue_high_water.load(Relaxed),
        );
        for (name, help, value) in [
            (
                "accepted_total",
                "TCP connections accepted.",
                &self.accepted,
            ),
            ("opened_total", "WebSockets opened.", &self.opened),
            ("joins_total", "Joins of a room.", &self.joins),
            ("relayed_total", "Messages handed on.", &self.relayed),
            (
                "relayed_bytes_total",
                "Bytes of the messages handed on.",
                &self.relayed_bytes,
            ),
            (
                "queued_total",
                "Frames that waited for a slow reader.",
                &self.queued,
            ),
            (
                "errors_total",
                "Requests answered by an error.",
                &self.errors,
            ),
            (
                "lost_total",
                "WebSockets that ended without a close frame.",
                &self.lost,
            ),
        ] {
            head(&mut out, name, help, "counter");
            line(&mut out, name, "", value.load(Relaxed));
        }
        labelled(
            &mut out,
            "refused_total",
            "Connections refused before the WebSocket was open.",
            &Refused::WORDS,
            &self.refused,
        );
        labelled(
            &mut out,
            "closed_total",
            "WebSockets closed with a code.",
            &Farewell::WORDS,
            &self.closed,
        );
        self.render_latency(&mut out);
        out
    }

    fn render_latency(&self, out: &mut String) {
        let name = "relay_seconds";
        head(
            out,
            name,
            "From reading a message to handing it to the receiver's socket or queue.",
            "histogram",
        );
        let mut count = 0;
        for (place, bucket) in self.latency.iter().enumerate() {
            count += bucket.load(Relaxed);
            let bound = LATENCY
                .get(place)
                .map_or("+Inf".to_owned(), |bound| (*bound as f64 / 1e6).to_string());
            line(
                out,
                "relay_seconds_bucket",
                &format!("{{le=\"{bound}\"}}"),
                count,
            );
        }
        let sum = self.latency_sum.load(Relaxed) as f64 / 1e9;
        let _ = writeln!(out, "sealwire_relay_seconds_sum {sum}");
        line(out, "relay_seconds_count", "", count);
    }
}

fn gauge(out: &mut String, name: &str, help: &str, value: u64) {
    head(out, name, help, "gauge");
    line(out, name, "", value);
}

fn labelled(out: &mut String, name: &str, help: &str, words: &[&str], values: &[AtomicU64]) {
    head(out, name, help, "counter");
    for (word, value) in words.iter().zip(values) {
        line(
            out,
            name,
            &format!("{{reason=\"{word}\"}}"),
            value.load(Relaxed),
        );
    }
}

fn head(out: &mut String, name: &str, help: &str, kind: &str) {
    let _ = writeln!(
        out,
        "# HELP sealwire_{name} {help}\n# TYPE sealwire_{name} {kind}"
    );
}

fn line(out: &mut String, name: &str, labels: &str, value: u64) {
    let _ = writeln!(out, "sealwire_{name}{labels} {value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_has_a_name_that_was_declared_and_a_number() {
        let metrics = Metrics::default();
        metrics.refuse(Refused::Token);
        metrics.close(Farewell::LegacyFull);
        metrics.queued(77);
        metrics.queued(7);
        metrics.relayed(300, Duration::from_micros(11));
        metrics.relayed(300, Duration::from_secs(1));
        let text = metrics.render(&Guests::default());
        for expected in [
            "sealwire_refused_total{reason=\"token\"} 1\n",
            "sealwire_closed_total{reason=\"legacy_full\"} 1\n",
            "sealwire_queue_high_water_bytes 77\n",
            "sealwire_relayed_bytes_total 600\n",
            "sealwire_relay_seconds_bucket{le=\"0.00001\"} 0\n",
            "sealwire_relay_seconds_bucket{le=\"0.000025\"} 1\n",
            "sealwire_relay_seconds_bucket{le=\"+Inf\"} 2\n",
            "sealwire_relay_seconds_sum 1.000011\n",
            "sealwire_relay_seconds_count 2\n",
        ] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
        let declared: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
            .collect();
        for sample in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = sample.rsplit_once(' ').unwrap();
            assert!(
                declared.iter().any(|declared| name.starts_with(declared)),
                "{sample}"
            );
            assert!(value.parse::<f64>().is_ok(), "{sample}");
        }
    }
}
