//! Serves one pool from the command line, for measuring: `forward LISTEN_PORT THREADS SERVER_PORT...`.

use std::process::ExitCode;

use tandem_proxy::server::{Options, Running};
use tandem_proxy::settings::{Address, Distribution, Hash, Pool, Server};

fn main() -> ExitCode {
    let numbers: Vec<u16> = std::env::args()
        .skip(1)
        .filter_map(|word| word.parse().ok())
        .collect();
    let [listen, threads, servers @ ..] = &numbers[..] else {
        eprintln!("usage: forward LISTEN_PORT THREADS SERVER_PORT...");
        return ExitCode::from(2);
    };
    let address = |port: u16| Address::Tcp {
        host: "127.0.0.1".to_owned(),
        port,
    };
    let pool = Pool {
        hash: Hash::Fnv1a64,
        distribution: Distribution::Ketama,
        keepalive: false,
        ..Pool::new(
            "forward".to_owned(),
            address(*listen),
            servers
                .iter()
                .map(|&port| Server {
                    name: format!("127.0.0.1:{port}"),
                    address: address(port),
                    weight: 1,
                })
                .collect(),
        )
    };
    let options = Options {
        threads: usize::from(*threads),
        ..Options::default()
    };
    match Running::start(vec![pool], options) {
        Ok(running) => {
            running.join();
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("forward: {error}");
            ExitCode::FAILURE
        }
    }
}
