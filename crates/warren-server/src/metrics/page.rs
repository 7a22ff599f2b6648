//! The page that Prometheus reads: text format, version 0.0.4.

use std::{
    fmt::{Display, Write as _},
    sync::atomic::Ordering,
};

use super::{histogram::Histogram, lock, process::Usage};
use crate::{app::App, certificates::CertificateState};

/// Everything that is counted, now.
pub(crate) fn page(app: &App) -> String {
    let mut page = Page::default();
    server(app, &mut page);
    sandboxes(app, &mut page);
    requests(app, &mut page);
    certificates(app, &mut page);
    process(&mut page);
    page.0
}

fn server(app: &App, page: &mut Page) {
    page.head("warren_build_info", "gauge", "The version of this server.");
    page.line("warren_build_info", &[("version", app.version())], 1);
    let uptime = app.uptime().as_secs_f64();
    page.one("warren_uptime_seconds", "gauge", "How long this server has been running.", uptime);
}

fn sandboxes(app: &App, page: &mut Page) {
    let now = app.sandboxes.statistics();
    page.head("warren_sandboxes", "gauge", "Sandboxes that somebody owns, by state.");
    for (state, count) in now.states {
        page.line("warren_sandboxes", &[("state", state)], count);
    }
    let help = "Fully started sandboxes that wait for an owner.";
    page.one("warren_sandboxes_parked", "gauge", help, now.parked);
    let creations = lock(&app.metrics().creations).clone();
    let name = "warren_create_duration_seconds";
    page.head(name, "histogram", "How long creations took that succeeded.");
    page.histogram(name, &[], &creations.durations);
    let name = "warren_create_failures_total";
    page.head(name, "counter", "Creations that failed, by error code.");
    for (code, count) in creations.failures {
        page.line(name, &[("code", code)], count);
    }
    let execs = app.metrics().execs.load(Ordering::Relaxed);
    page.one("warren_execs_started_total", "counter", "Commands that were started.", execs);
    let help = "The number of the last event.";
    page.one("warren_event_sequence", "counter", help, now.last_event);
    let help = "Transactions that the database did not take; they are tried again.";
    page.one("warren_store_commit_failures_total", "counter", help, now.failed_commits);
    let help = "What is weaker on this machine than it could be; warren doctor says what.";
    page.one("warren_runtime_warnings", "gauge", help, now.warnings);
}

fn requests(app: &App, page: &mut Page) {
    let requests = lock(&app.metrics().requests).clone();
    let name = "warren_http_requests_total";
    page.head(name, "counter", "Requests that were answered.");
    for ((method, route), requests) in &requests {
        for (status, count) in &requests.by_status {
            let status = status.to_string();
            let labels = [("method", *method), ("route", route.as_ref()), ("status", &status)];
            page.line(name, &labels, count);
        }
    }
    let name = "warren_http_request_duration_seconds";
    page.head(name, "histogram", "Time to the answer; of a stream, to its beginning.");
    for ((method, route), requests) in &requests {
        let labels = [("method", *method), ("route", route.as_ref())];
        page.histogram(name, &labels, &requests.durations);
    }
    let name = "warren_http_turned_away_total";
    page.head(
        name,
        "counter",
        "Requests that were refused before any route: no good key, too many.",
    );
    for (status, count) in lock(&app.metrics().turned_away).iter() {
        page.line(name, &[("status", &status.to_string())], count);
    }
    let name = "warren_edge_requests_total";
    page.head(name, "counter", "Requests to ports of sandboxes that were answered, by class.");
    for (class, count) in lock(&app.metrics().visits).iter() {
        page.line(name, &[("status", &format!("{class}xx"))], count);
    }
    let help = "Requests whose answers are not complete, streams among them.";
    page.one("warren_http_requests_in_flight", "gauge", help, app.activity().in_flight);
    let streams = app.metrics().streams.load(Ordering::Relaxed);
    page.one("warren_open_streams", "gauge", "Streams and conversations that are open.", streams);
}

/// Names are of nobody's business here: what fails is said by the log and by `warren doctor`.
fn certificates(app: &App, page: &mut Page) {
    let Some(report) = app.certificate_report() else { return };
    let count = |holds: fn(&CertificateState) -> bool| report.all().filter(|it| holds(it)).count();
    let name = "warren_certificates";
    page.head(name, "gauge", "Certificates of this server, by how they are; one may count twice.");
    for (state, count) in [
        ("good", count(|it| it.until.is_some())),
        ("missing", count(|it| it.until.is_none())),
        ("ending", count(|it| it.ending)),
        ("failing", count(|it| it.failure.is_some())),
    ] {
        page.line(name, &[("state", state)], count);
    }
    if let Some(end) = report.all().filter_map(|it| it.until).min() {
        let help = "When the first certificate ends, in seconds since 1970.";
        page.one("warren_certificate_first_end_seconds", "gauge", help, end);
    }
    let help = "Attempts to have a new certificate that failed.";
    page.one("warren_certificate_failures_total", "counter", help, report.failures);
}

/// Under the names that every process has in Prometheus.
fn process(page: &mut Page) {
    let usage = Usage::now();
    for (name, help, value) in [
        ("process_resident_memory_bytes", "Resident memory.", usage.resident_bytes),
        ("process_open_fds", "Open file descriptors.", usage.open_descriptors),
        ("process_max_fds", "The limit of open file descriptors.", usage.most_descriptors),
        ("process_threads", "Threads.", usage.threads),
    ] {
        if let Some(value) = value {
            page.one(name, "gauge", help, value);
        }
    }
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.add(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    /// A family with one value and no labels.
    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.head(name, kind, help);
        self.line(name, &[], value);
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<_> =
            labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let labels = labels.join(",");
        match labels.is_empty() {
            true => self.add(format_args!("{name} {value}\n")),
            false => self.add(format_args!("{name}{{{labels}}} {value}\n")),
        }
    }

    fn histogram(&mut self, name: &str, labels: &[(&str, &str)], histogram: &Histogram) {
        let bucket = format!("{name}_bucket");
        for (bound, count) in histogram.buckets() {
            let bound = bound.to_string();
            self.line(&bucket, &[labels, &[("le", &bound)]].concat(), count);
        }
        self.line(&bucket, &[labels, &[("le", "+Inf")]].concat(), histogram.count());
        self.line(&format!("{name}_sum"), labels, histogram.sum_seconds());
        self.line(&format!("{name}_count"), labels, histogram.count());
    }

    fn add(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        self.0.write_fmt(text).ok();
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_cannot_end_its_line() {
        let mut page = Page::default();
        page.line("a", &[("b", "x\"\n\\")], 1);
        assert_eq!(page.0, "a{b=\"x\\\"\\n\\\\\"} 1\n");
    }
}
