//! Placeholders in the command and the environment of a process: `{socket}`, `{port}`, `{instance}`.

/// What stands for the placeholders of one instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place<'a> {
    /// Path of its Unix socket; `None`: it has none, or is not told.
    pub socket: Option<&'a str>,
    /// Its TCP port; `None`: it has none.
    pub port: Option<u16>,
    /// Its number.
    pub instance: usize,
}

/// `text` with its placeholders replaced; `{{` is a brace, and any other brace stays what it is.
///
/// Errors: the name of a placeholder that is none, or has no value here.
pub fn fill(text: &str, place: &Place<'_>) -> Result<String, String> {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find('{') {
        let (before, behind) = (&rest[..at], &rest[at + 1..]);
        out.push_str(before);
        let name = behind.split('}').next().filter(|name| name.len() < behind.len() && is_name(name));
        rest = match name {
            _ if behind.starts_with('{') => {
                out.push('{');
                &behind[1..]
            }
            Some(name) => {
                out.push_str(&value(name, place).ok_or_else(|| name.to_owned())?);
                &behind[name.len() + 1..]
            }
            None => {
                out.push('{');
                behind
            }
        };
    }
    out.push_str(rest);
    Ok(out)
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

fn value(name: &str, place: &Place<'_>) -> Option<String> {
    match name {
        "socket" => place.socket.map(str::to_owned),
        "port" => place.port.map(|port| port.to_string()),
        "instance" => Some(place.instance.to_string()),
        _ => None,
    }
}

/// Whether one of the texts holds the placeholder.
pub fn mention<'a>(mut texts: impl Iterator<Item = &'a str>, name: &str) -> bool {
    texts.any(|text| text.contains(&format!("{{{name}}}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_replaced_and_other_braces_stay() {
        let place = Place { socket: Some("/run/a.sock"), port: None, instance: 2 };
        let cases = [
            ("unix:{socket}", Ok("unix:/run/a.sock")),
            ("{instance}-{instance}", Ok("2-2")),
            ("{{socket}", Ok("{socket}")),
            ("{\"a\": {}}", Ok("{\"a\": {}}")),
            ("a{", Ok("a{")),
            ("{ socket }", Ok("{ socket }")),
            ("{sockt}", Err("sockt")),
            ("{port}", Err("port")),
            ("é{instance}é", Ok("é2é")),
        ];
        for (text, expected) in cases {
            assert_eq!(fill(text, &place).as_deref().map_err(String::as_str), expected, "{text}");
        }
        assert!(mention(["a", "b{socket}"].into_iter(), "socket") && !mention(["{port}"].into_iter(), "socket"));
    }
}
