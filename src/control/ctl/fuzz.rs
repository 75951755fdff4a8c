//! The property of requests on the control socket that holds for any input. A target of `fuzz/` calls it with coverage
//! feedback; the test below runs it on every `cargo test`. It panics when the property does not hold.

use super::{REQUEST_BYTES_MAX, parse};

/// A line is a request or is refused with a reason of one line; a request says the same when it is written and read again.
pub fn request(input: &[u8]) {
    let line = &input[..input.len().min(REQUEST_BYTES_MAX)];
    match parse(line) {
        Ok(request) => {
            let written = serde_json::to_vec(&request).expect("requests can be written");
            assert!(!written.contains(&b'\n'));
            assert_eq!(parse(&written), Ok(request));
        }
        Err(reason) => assert!(!reason.is_empty() && !reason.contains('\n')),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn nothing_that_comes_is_too_much() {
        let pieces = [
            "\"command\":",
            "\"show\"",
            "\"reload\"",
            "\"server\"",
            "\"server_weight\"",
            "\"server_limit\"",
            "\"weight\":",
            "\"config\"",
            "7",
            "\"shutdown\"",
            "\"state\":",
            "\"drain\"",
            "\"ready\"",
            "\"color\":",
            "true",
            "false",
            "null",
            "{",
            "}",
            ",",
            "[",
            "1e400",
            "\"\\ud800\"",
            "\n",
            "\"a/1\"",
        ];
        crate::testing::fuzz("control_request", super::request, &pieces);
    }
}
