//! `cert self-signed`: a certificate for development and its key, as two files.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::{Failure, SelfSignedArgs};
use crate::tls::self_signed;

/// Writes NAME.pem and NAME.key; returns what to tell: their paths and the lines for the config file.
///
/// Errors: bad names, files that are there already (without `--force`), a folder that cannot be written to.
pub fn write(args: &SelfSignedArgs) -> Result<String, Failure> {
    let made = self_signed(&args.names, args.days).map_err(Failure::new)?;
    if !args.out.is_dir() {
        return Err(Failure::new(format_args!("{} is not a folder", args.out.display())));
    }
    let name = file_name(args.names.first().map_or("", String::as_str));
    let (chain, key) = (args.out.join(format!("{name}.pem")), args.out.join(format!("{name}.key")));
    if !args.force
        && let Some(old) = [&chain, &key].into_iter().find(|file| file.symlink_metadata().is_ok())
    {
        return Err(Failure::new(format_args!("{} is there already: --force replaces it", old.display())));
    }
    // The key first: a certificate whose key is missing would only be found at the next start.
    for (file, text, mode) in [(&key, &made.key_pem, 0o600), (&chain, &made.chain_pem, 0o644)] {
        create(file, text, mode)
            .map_err(|error| Failure::new(format_args!("cannot write {}: {error}", file.display())))?;
    }
    Ok(told(args.days, &chain, &key))
}

/// A new file of that mode, also in place of an old one, whose mode and readers might be others.
fn create(file: &Path, text: &str, mode: u32) -> io::Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(mode).open(file)?.write_all(text.as_bytes())
}

/// `*` and the colons of an IPv6 address would be a nuisance in a shell.
fn file_name(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    name.chars().map(|c| if plain(c) { c.to_ascii_lowercase() } else { '_' }).collect()
}

fn told(days: u32, chain: &Path, key: &Path) -> String {
    // The config's relative paths start at another folder, perhaps.
    let quoted = |path: &Path| {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.into());
        let path = path.display().to_string();
        format!("\"{}\"", path.replace('\\', "\\\\").replace('"', "\\\""))
    };
    format!(
        "{}: the certificate, good for {days} days\n{}: its private key, readable by you alone\n\n\
         For the config file:\n\n\
         [listener.secure]\naddress = \"0.0.0.0:8443\"\n\
         tls = {{ certificates = [{{ chain = {}, key = {} }}] }}\n",
        chain.display(),
        key.display(),
        quoted(chain),
        quoted(key),
    )
}
