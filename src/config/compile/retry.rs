//! `tries` and the `retry_…` keys of an upstream.

use std::time::Duration;

use crate::config::model::Retry;
use crate::config::report::Problem;
use crate::config::section::{Placed, Section};
use crate::proxy::retry::RetryPolicy;

/// Compiles them.
pub(super) fn compile(section: &Section<'_>) -> Retry {
    let (policy, statuses) = retry_on(section);
    let (connect, response): (Duration, Duration) = (section.get("connect_timeout"), section.get("response_timeout"));
    Retry {
        tries_max: section.get("tries"),
        policy,
        statuses,
        budget_percent: budget(section),
        time_max: section.find("retry_time_max").unwrap_or(connect + response),
        body_bytes_max: section.get::<u64>("retry_body_max") as usize,
    }
}

fn retry_on(section: &Section<'_>) -> (RetryPolicy, Vec<u16>) {
    let words: Vec<Placed<String>> = section.list("retry_on");
    let (mut policy, mut statuses) = (RetryPolicy { error: false, ..RetryPolicy::default() }, Vec::new());
    for word in words {
        match word.value.as_str() {
            "error" => policy.error = true,
            "timeout" => policy.response_timeout = true,
            "non_idempotent" => policy.non_idempotent = true,
            text => match text.parse() {
                Ok(status @ 400..=599) => statuses.push(status),
                _ => {
                    let title = format!("bad value for `retry_on` in {}", section.title);
                    let label = format!(
                        "`{text}` is none of `error`, `timeout`, `non_idempotent` and statuses from 400 to 599"
                    );
                    section.cx.mistake(Problem::new(title, word.span, label));
                }
            },
        }
    }
    policy.error_status = !statuses.is_empty();
    (policy, statuses)
}

fn budget(section: &Section<'_>) -> Option<u32> {
    let text: String = section.get("retry_budget");
    let percent = text.strip_suffix('%').and_then(|number| number.parse().ok()).filter(|percent| *percent <= 100);
    if percent.is_none() && text != "off" {
        section.bad_value("retry_budget", format!("`{text}` is no share: write one such as \"20%\", or \"off\""));
    }
    percent
}
