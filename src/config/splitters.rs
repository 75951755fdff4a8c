//! The splitters of a new config in a running process. Pure.
//!
//! Sessions, connections and counters know a server by its index, and an account by its number. So both keep theirs for as long
//! as the process runs: what the new config no longer has stays in its place, marked as gone, new ones come behind, and one
//! that comes back has its old place. A number never means another server or account than it once did.

use super::Config;
use super::model::{MysqlServer, MysqlUser, PrimaryRule, SERVERS_EVER_MAX, Splitter, USERS_EVER_MAX};
use super::succession::{Refused, adopt_identity};
use crate::mysql::protocol::auth::Verifier;

/// Puts the servers and accounts of the splitters of `new` into the places of those of `old`; what only a restart changes stays,
/// and is named.
///
/// Errors: too many servers or accounts have been there, or there is no password where there was none before.
pub(super) fn adopt(old: &Config, new: &mut Config, needs_restart: &mut Vec<String>) -> Result<(), Refused> {
    let settled = std::mem::take(&mut new.splitters).into_iter().map(|new| {
        match old.splitters.iter().find(|old| old.name == new.name) {
            Some(old) => settle(old, new, needs_restart),
            None => begin(new),
        }
    });
    new.splitters = settled.collect::<Result<_, _>>()?;
    Ok(())
}

/// One that is new. An account without a password would let everybody in.
fn begin(new: Splitter) -> Result<Splitter, Refused> {
    let refused = |whose: &str| Err(Refused::Password(format!("user `{whose}` of [mysql.{}]", new.name)));
    if new.password.0.is_empty() {
        return refused(&new.user);
    }
    match new.users.iter().find(|user| user.verifier == Verifier::Password(Vec::new())) {
        Some(user) => refused(&user.name),
        None => Ok(new),
    }
}

/// One splitter.
fn settle(old: &Splitter, mut new: Splitter, needs_restart: &mut Vec<String>) -> Result<Splitter, Refused> {
    if old.user != new.user {
        needs_restart.push(format!("`user` in [mysql.{}]", old.name));
        new.user.clone_from(&old.user);
        new.password = old.password.clone();
    }
    if new.password.0.is_empty() {
        // Of a file that the process may not read any more.
        new.password = old.password.clone();
    }
    if let (Some(old), Some(new)) = (&old.server_tls, &mut new.server_tls) {
        adopt_identity(old, new);
    }
    settle_servers(old, &mut new);
    settle_users(old, &mut new)?;
    let refused = |what, most| Err(Refused::Ever { splitter: old.name.clone(), what, most });
    match () {
        () if new.servers.len() > SERVERS_EVER_MAX => refused("servers", SERVERS_EVER_MAX),
        () if new.users.len() > USERS_EVER_MAX => refused("users", USERS_EVER_MAX),
        () => Ok(new),
    }
}

fn settle_servers(old: &Splitter, new: &mut Splitter) {
    let before = |server: &MysqlServer| MysqlServer { is_gone: true, ..server.clone() };
    let is_same = |one: &MysqlServer, other: &MysqlServer| one.address == other.address;
    let (servers, places) =
        keep_places(old.servers.iter().map(before), std::mem::take(&mut new.servers), is_same, |server| server.is_gone);
    new.servers = servers;
    if let PrimaryRule::Fixed(primary) = &mut new.primary {
        *primary = places[*primary];
    }
}

fn settle_users(old: &Splitter, new: &mut Splitter) -> Result<(), Refused> {
    for user in new.users.iter_mut().filter(|user| user.verifier == Verifier::Password(Vec::new())) {
        // As above. An account without a password would let everybody in.
        let before = old.users.iter().find(|before| before.name == user.name);
        let refused = || Refused::Password(format!("user `{}` of [mysql.{}]", user.name, old.name));
        user.verifier = before.ok_or_else(refused)?.verifier.clone();
    }
    let before = |user: &MysqlUser| MysqlUser { is_gone: true, ..user.clone() };
    let is_same = |one: &MysqlUser, other: &MysqlUser| one.name == other.name;
    let (users, places) =
        keep_places(old.users.iter().map(before), std::mem::take(&mut new.users), is_same, |user| user.is_gone);
    new.users = users;
    // 0 is the splitter's own user.
    let number =
        |account: &mut u16| *account = account.checked_sub(1).map_or(0, |at| places[usize::from(at)] as u16 + 1);
    new.rules.iter_mut().flat_map(|rule| &mut rule.accounts).for_each(number);
    Ok(())
}

/// Puts each of `new` into the place of its like in `places`, which all are free, or behind them; with the place of each.
fn keep_places<T>(
    places: impl Iterator<Item = T>,
    new: Vec<T>,
    is_same: impl Fn(&T, &T) -> bool,
    is_free: impl Fn(&T) -> bool,
) -> (Vec<T>, Vec<usize>) {
    let mut all: Vec<T> = places.collect();
    let mut taken = Vec::with_capacity(new.len());
    for new in new {
        match all.iter().position(|old| is_free(old) && is_same(old, &new)) {
            Some(at) => {
                all[at] = new;
                taken.push(at);
            }
            None => {
                taken.push(all.len());
                all.push(new);
            }
        }
    }
    (all, taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::adopt;

    fn config(lines: &str) -> Config {
        let text = format!("[mysql.m]\nlisten = \"127.0.0.1:1\"\nuser = \"u\"\npassword = \"p\"\n{lines}\n");
        crate::config::parse("test.toml", &text, &[]).unwrap_or_else(|report| panic!("{report}")).0
    }

    /// What becomes of one config after the other; then index, `-` where it is gone, and what tells servers from each other.
    fn servers(steps: &[&str]) -> (Vec<String>, PrimaryRule) {
        let mut now = config(steps[0]);
        for step in &steps[1..] {
            let adopted = adopt(&now, config(step)).unwrap();
            assert!(adopted.needs_restart.is_empty(), "{:?}", adopted.needs_restart);
            now = adopted.config;
        }
        let text = |server: &MysqlServer| {
            format!(
                "{}{}",
                if server.is_gone { "-" } else { "" },
                server.address.to_string().trim_start_matches("1.1.1.1:")
            )
        };
        (now.splitters[0].servers.iter().map(text).collect(), now.splitters[0].primary)
    }

    #[test]
    fn a_server_keeps_its_index_and_has_it_again() {
        let of = |primary: u16, replicas: &[u16]| {
            let replicas: Vec<String> = replicas.iter().map(|port| format!("\"1.1.1.1:{port}\"")).collect();
            format!("primary = \"1.1.1.1:{primary}\"\nreplicas = [{}]", replicas.join(", "))
        };
        let (one, two, three) = (of(1, &[2, 3]), of(1, &[4, 3]), of(1, &[2, 4]));
        assert_eq!(servers(&[&one, &two]), (["1", "-2", "3", "4"].map(String::from).to_vec(), PrimaryRule::Fixed(0)));
        assert_eq!(servers(&[&one, &two, &three]).0, ["1", "2", "-3", "4"]);
        let promoted = of(3, &[2]);
        assert_eq!(servers(&[&one, &promoted]), (["-1", "2", "3"].map(String::from).to_vec(), PrimaryRule::Fixed(2)));
        assert_eq!(servers(&[&one, &of(9, &[])]).1, PrimaryRule::Fixed(3));
        let found = servers(&[&one, "servers = [\"1.1.1.1:3\", \"1.1.1.1:5\"]"]);
        assert_eq!(found.0, ["-1", "-2", "3", "5"]);
        assert!(matches!(found.1, PrimaryRule::Found { .. }));
    }

    #[test]
    fn a_weight_is_the_new_one_and_what_comes_back_is_not_gone() {
        let with = |weight: u32| {
            format!("primary = \"1.1.1.1:1\"\nreplicas = [{{ address = \"1.1.1.1:2\", weight = {weight} }}]")
        };
        let (heavy, without) = (with(7), "primary = \"1.1.1.1:1\"".to_owned());
        let gone = adopt(&config(&with(1)), config(&without)).unwrap().config;
        assert_eq!(gone.splitters[0].present().count(), 1);
        let back = adopt(&gone, config(&heavy)).unwrap().config;
        assert_eq!((back.splitters[0].servers[1].weight, back.splitters[0].present().count()), (7, 2));
    }

    #[test]
    fn an_account_keeps_its_number_and_rules_follow_it() {
        let with = |users: &[&str], about: &str| {
            let users: Vec<String> =
                users.iter().map(|name| format!("{{ name = \"{name}\", password = \"{name}\" }}")).collect();
            format!(
                "primary = \"1.1.1.1:1\"\nusers = [{}]\nrules = [{{ users = [{about}], reject = \"no\" }}]",
                users.join(", ")
            )
        };
        let old = config(&with(&["a", "b"], "\"a\""));
        assert_eq!(old.splitters[0].rules[0].accounts, [1]);
        let new = adopt(&old, config(&with(&["c", "b"], "\"b\", \"u\", \"c\""))).unwrap().config;
        let splitter = &new.splitters[0];
        let names: Vec<_> = splitter.users.iter().map(|user| (user.name.as_str(), user.is_gone)).collect();
        assert_eq!(names, [("a", true), ("b", false), ("c", false)]);
        assert_eq!(splitter.rules[0].accounts, [2, 0, 3]);
        assert_eq!(splitter.users[0].verifier, Verifier::Password(b"a".to_vec()), "who is logged on goes on");
    }

    #[test]
    fn a_password_that_cannot_be_read_again_stays_and_a_new_one_is_refused() {
        let with = |password: &str| format!("primary = \"1.1.1.1:1\"\nusers = [{{ name = \"a\", {password} }}]");
        // Nobody reads files here.
        let unread = with("password_file = \"/secret\"");
        let kept = adopt(&config(&with("password = \"x\"")), config(&unread)).unwrap().config;
        assert_eq!(kept.splitters[0].users[0].verifier, Verifier::Password(b"x".to_vec()));
        let refused = adopt(&config("primary = \"1.1.1.1:1\""), config(&unread)).unwrap_err().to_string();
        assert!(refused.starts_with("the password of user `a` of [mysql.m] is empty, or"), "{refused}");
        let other = "[mysql.n]\nlisten = \"127.0.0.1:2\"\nuser = \"u\"\npassword = \"p\"\nprimary = \"1.1.1.1:1\"\n";
        let none = crate::config::parse("test.toml", other, &[]).unwrap().0;
        let refused = adopt(&none, config(&unread)).unwrap_err().to_string();
        assert!(refused.starts_with("the password of user `a`"), "{refused}");
    }

    #[test]
    fn what_a_restart_changes_stays_and_the_rest_is_taken() {
        let old = config("primary = \"1.1.1.1:1\"\npool_max = 3");
        let text = "[mysql.m]\nlisten = \"127.0.0.1:2\"\nuser = \"v\"\npassword = \"q\"\nprimary = \"1.1.1.1:1\"\n\
                    digests_max = 3\npool_max = 4\n[mysql.n]\nlisten = \"127.0.0.1:3\"\nuser = \"v\"\npassword = \"q\"\n\
                    primary = \"1.1.1.1:1\"\n";
        let new = crate::config::parse("test.toml", text, &[]).unwrap().0;
        let adopted = adopt(&old, new).unwrap();
        let told = ["`user` in [mysql.m]"];
        assert_eq!(adopted.needs_restart, told);
        let (old, new) = (&old.splitters[0], &adopted.config.splitters);
        assert_eq!((new.len(), &new[0].user, &new[0].password), (2, &old.user, &old.password));
        assert_ne!(new[0].listen, old.listen);
        assert_eq!((new[0].pool_max, new[0].digests_max), (4, 3));
    }

    #[test]
    fn no_process_has_had_too_many_servers() {
        let mut now = config("primary = \"1.1.1.1:1\"");
        for round in 0..100 {
            let replicas: Vec<String> = (0..40).map(|n| format!("\"1.1.1.1:{}\"", 100 + round * 40 + n)).collect();
            let next = config(&format!("primary = \"1.1.1.1:1\"\nreplicas = [{}]", replicas.join(", ")));
            match adopt(&now, next) {
                Ok(adopted) => now = adopted.config,
                Err(refused) => {
                    assert_eq!((round + 1) * 40 / SERVERS_EVER_MAX, 1);
                    let text = refused.to_string();
                    assert!(text.starts_with("[mysql.m] has had more than 1024 servers"), "{text}");
                    return;
                }
            }
        }
        panic!("4000 servers were taken");
    }
}
