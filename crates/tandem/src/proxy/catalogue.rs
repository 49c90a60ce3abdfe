//! Every number that the proxy tells, once: its name on twemproxy's statistics port, its name for Prometheus, what it
//! means, and where it is found. The port, `-D` and `/metrics` are made from these two tables, so they cannot differ.

use tandem_proxy::statistics::{PoolStatistics, ServerStatistics};

/// How a number behaves, which Prometheus wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Microseconds of the Unix epoch; seconds for Prometheus.
    Microseconds,
}

/// One number of a `T`.
#[derive(Debug)]
pub(super) struct Field<T> {
    /// twemproxy's name.
    pub(super) name: &'static str,
    /// Its name for Prometheus.
    pub(super) metric: &'static str,
    pub(super) kind: Kind,
    pub(super) meaning: &'static str,
    pub(super) value: fn(&T) -> u64,
}

/// Of a pool, in twemproxy's order.
pub(super) const POOL: [Field<PoolStatistics>; 6] = [
    Field {
        name: "client_eof",
        metric: "tandem_proxy_client_eof_total",
        kind: Kind::Counter,
        meaning: "client connections that the client ended",
        value: |pool| pool.client_eof,
    },
    Field {
        name: "client_err",
        metric: "tandem_proxy_client_errors_total",
        kind: Kind::Counter,
        meaning: "client connections that an error ended",
        value: |pool| pool.client_err,
    },
    Field {
        name: "client_connections",
        metric: "tandem_proxy_client_connections",
        kind: Kind::Gauge,
        meaning: "client connections now",
        value: |pool| pool.client_connections,
    },
    Field {
        name: "server_ejects",
        metric: "tandem_proxy_server_ejects_total",
        kind: Kind::Counter,
        meaning: "times that a server was left out of the placement",
        value: |pool| pool.server_ejects,
    },
    Field {
        name: "forward_error",
        metric: "tandem_proxy_forward_errors_total",
        kind: Kind::Counter,
        meaning: "errors answered because a server could not be asked",
        value: |pool| pool.forward_error,
    },
    Field {
        name: "fragments",
        metric: "tandem_proxy_fragments_total",
        kind: Kind::Counter,
        meaning: "parts of requests that were split over servers",
        value: |pool| pool.fragments,
    },
];

/// Of a server, in twemproxy's order.
pub(super) const SERVER: [Field<ServerStatistics>; 13] = [
    Field {
        name: "server_eof",
        metric: "tandem_proxy_server_eof_total",
        kind: Kind::Counter,
        meaning: "connections that the server ended",
        value: |server| server.server_eof,
    },
    Field {
        name: "server_err",
        metric: "tandem_proxy_server_errors_total",
        kind: Kind::Counter,
        meaning: "connections to the server that an error ended",
        value: |server| server.server_err,
    },
    Field {
        name: "server_timedout",
        metric: "tandem_proxy_server_timeouts_total",
        kind: Kind::Counter,
        meaning: "connections to the server ended because a request took too long",
        value: |server| server.server_timedout,
    },
    Field {
        name: "server_connections",
        metric: "tandem_proxy_server_connections",
        kind: Kind::Gauge,
        meaning: "connections to the server now",
        value: |server| server.server_connections,
    },
    Field {
        name: "server_ejected_at",
        metric: "tandem_proxy_server_ejected_timestamp_seconds",
        kind: Kind::Microseconds,
        meaning: "when the server was last left out of the placement; 0 if never",
        value: |server| server.server_ejected_at,
    },
    Field {
        name: "requests",
        metric: "tandem_proxy_requests_total",
        kind: Kind::Counter,
        meaning: "requests sent on to the server, parts counted singly",
        value: |server| server.requests,
    },
    Field {
        name: "request_bytes",
        metric: "tandem_proxy_request_bytes_total",
        kind: Kind::Counter,
        meaning: "bytes of these requests",
        value: |server| server.request_bytes,
    },
    Field {
        name: "responses",
        metric: "tandem_proxy_responses_total",
        kind: Kind::Counter,
        meaning: "replies of the server",
        value: |server| server.responses,
    },
    Field {
        name: "response_bytes",
        metric: "tandem_proxy_response_bytes_total",
        kind: Kind::Counter,
        meaning: "bytes of these replies",
        value: |server| server.response_bytes,
    },
    Field {
        name: "in_queue",
        metric: "tandem_proxy_in_queue_requests",
        kind: Kind::Gauge,
        meaning: "requests that wait to be sent to the server",
        value: |server| server.in_queue,
    },
    Field {
        name: "in_queue_bytes",
        metric: "tandem_proxy_in_queue_bytes",
        kind: Kind::Gauge,
        meaning: "bytes of the requests that wait to be sent",
        value: |server| server.in_queue_bytes,
    },
    Field {
        name: "out_queue",
        metric: "tandem_proxy_out_queue_requests",
        kind: Kind::Gauge,
        meaning: "requests sent to the server that wait for their replies",
        value: |server| server.out_queue,
    },
    Field {
        name: "out_queue_bytes",
        metric: "tandem_proxy_out_queue_bytes",
        kind: Kind::Gauge,
        meaning: "bytes of the requests that wait for their replies",
        value: |server| server.out_queue_bytes,
    },
];

/// What `-D` says, in twemproxy's layout.
pub(super) fn described() -> String {
    let mut text = String::from("pool stats:\n");
    for field in &POOL {
        describe(&mut text, field);
    }
    text.push_str("\nserver stats:\n");
    for field in &SERVER {
        describe(&mut text, field);
    }
    text
}

fn describe<T>(text: &mut String, field: &Field<T>) {
    text.push_str(&format!("  {:<20}\"{}\"\n", field.name, field.meaning));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn metrics_are_named_by_their_kind_and_explained_on_the_page() {
        let page = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../docs/compat/nutcracker.md"
        );
        let page = std::fs::read_to_string(page).unwrap();
        let pool = POOL.iter().map(|field| (field.metric, field.kind));
        let server = SERVER.iter().map(|field| (field.metric, field.kind));
        let all: Vec<_> = pool.chain(server).collect();
        for (metric, kind) in &all {
            assert_eq!(
                metric.ends_with("_total"),
                *kind == Kind::Counter,
                "{metric}"
            );
            assert!(
                page.contains(&format!("`{metric}`")),
                "{metric} is not on the page"
            );
        }
        let names: BTreeSet<_> = all.iter().map(|(metric, _)| metric).collect();
        assert_eq!(names.len(), all.len());
    }

    #[test]
    fn the_catalogue_names_everything_in_two_parts() {
        let text = described();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2 + POOL.len() + 1 + SERVER.len());
        assert_eq!(lines[0], "pool stats:");
        assert_eq!(
            lines[1],
            "  client_eof          \"client connections that the client ended\""
        );
        assert_eq!(lines[1 + POOL.len()], "");
        assert_eq!(lines[2 + POOL.len()], "server stats:");
    }
}
