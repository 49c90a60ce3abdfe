//! `nutcracker.yml`: whatever it holds, reading ends, and a pool that was read without an error can be run.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem_config::nutcracker::read;

fuzz_target!(|data: &[u8]| {
    let loaded = read("nutcracker.yml", data, &|host, _| {
        if host.is_empty() { Err("no name".to_owned()) } else { Ok(()) }
    });
    let _ = loaded.report.render(false);
    if loaded.report.has_errors() {
        return;
    }
    assert!(!loaded.pools.is_empty() || !loaded.memcached.is_empty(), "a valid file has a pool");
    for pool in &loaded.pools {
        assert!(!pool.servers.is_empty() && pool.server_connections > 0);
        assert!(pool.servers.iter().all(|server| server.weight > 0));
        let order = |a: &str, b: &str| (a.len(), a) < (b.len(), b);
        assert!(pool.servers.is_sorted_by(|a, b| order(&a.name, &b.name)), "names are unique and in order");
    }
});
