//! `[app.NAME]`.

use super::*;

#[test]
fn apps() {
    check(
        "[app.a]\nprogram = \"guestbok\"",
        &["2:11 unknown program `guestbok` in [app.a] | did you mean \"guestbook\"?"],
    );
    check(
        "[app.a]\nprogram = \"shop\"",
        &["2:11 unknown program `shop` in [app.a] | the programs in this binary are guestbook, echo, hello"],
    );
    check(
        "[app.nothing]",
        &["1:1 unknown program `nothing` in [app.nothing] | the programs in this binary are guestbook, echo, hello"],
    );
    assert_eq!(warnings("[app.echo]"), ["[app.echo] is used by no route"]);
}
