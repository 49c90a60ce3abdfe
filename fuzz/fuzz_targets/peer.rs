//! What arrives at the peers' port: a request, and in it a statement.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem_core::statement::Statement;
use tandem_resp::{Limits, RequestParser};

fuzz_target!(|data: &[u8]| {
    if let Ok(Some(request)) = RequestParser::new(Limits::stranger()).parse(data) {
        for argument in request.to_args(data) {
            let _ = Statement::decode(&argument);
        }
    }
    if let Ok(statement) = Statement::decode(data) {
        assert_eq!(Statement::decode(&statement.encode()), Ok(statement));
    }
});
