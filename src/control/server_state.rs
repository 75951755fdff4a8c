//! What is known about the servers of an upstream: up, down or ejected, since when and why, and how the last check went.
//!
//! Writer: the control thread. Data workers read one flag of it with a relaxed load; what is text is behind a lock that
//! the control thread alone takes.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::shared::unix_ms;
use crate::metrics::{Counter, Gauge};
use crate::proxy::check::CheckStatus;

/// What a server is, leaving panic aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Gets requests.
    Up,
    /// Fails its active checks.
    Down,
    /// Passes them, but is ejected for what live traffic showed.
    Ejected,
}

impl Condition {
    /// Lower-case name, as shown on pages.
    pub fn name(self) -> &'static str {
        match self {
            Condition::Up => "up",
            Condition::Down => "down",
            Condition::Ejected => "ejected",
        }
    }
}

/// What the operator wants of a server, in HAProxy's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum AdminState {
    /// It gets requests.
    Ready = 0,
    /// It finishes what it has and gets nothing new but requests of sticky clients that belong there; its checks go on.
    Drain = 1,
    /// It finishes what it has, gets nothing else, and is not checked.
    Maintenance = 2,
}

impl AdminState {
    /// All of them.
    pub const ALL: [AdminState; 3] = [AdminState::Ready, AdminState::Drain, AdminState::Maintenance];

    /// Lower-case name, as shown on pages and written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            AdminState::Ready => "ready",
            AdminState::Drain => "drain",
            AdminState::Maintenance => "maintenance",
        }
    }
}

/// The operator has set nothing.
const AS_CONFIGURED: u32 = u32::MAX;

/// What is known about one server of an upstream. Writer: the control thread. Readers: everyone.
#[derive(Debug)]
pub struct ServerState {
    /// What data workers ask: it is up, or its upstream is in panic; and the operator has not taken it out.
    usable: AtomicBool,
    /// The same for requests of clients that belong there, which a server that is drained keeps.
    keeps: AtomicBool,
    /// Microseconds from `made` to when it last came back, and one more; 0: it has never been gone.
    came_up_us: AtomicU64,
    made: Instant,
    /// It is not a name that does not resolve.
    has_address: bool,
    /// It is the place of a program that does not run, or is not ready.
    vacant: AtomicBool,
    /// An [`AdminState`].
    admin: AtomicU8,
    /// What the operator has set in place of the config's weight; [`AS_CONFIGURED`]: nothing.
    weight_set: AtomicU32,
    /// The same for its limit of requests; 0: any number.
    limit_set: AtomicU32,
    /// The operator wants it to be left as it is, without checks.
    checks_paused: AtomicBool,
    /// What active checks say.
    passes: AtomicBool,
    /// It does not pass because its worker does not move, and for no other reason.
    held_up: AtomicBool,
    ejected: AtomicBool,
    /// Goes up each time that it comes back from an ejection, see [`crate::metrics::Outcomes`].
    life: AtomicU64,
    /// Milliseconds of the Unix epoch of the last change of its condition, or of the start.
    since_unix_ms: AtomicU64,
    status: AtomicU8,
    /// Checks done.
    pub checks: Counter,
    /// Checks that failed.
    pub failures: Counter,
    /// Changes from up to down or ejected.
    pub downs: Counter,
    /// Times it was ejected.
    pub ejections: Counter,
    /// Milliseconds spent down or ejected, ended spells only; [`ServerState::downtime`] adds the present one.
    downtime_ms: Counter,
    /// Duration of the last check, µs.
    pub last_check_us: Gauge,
    /// HTTP status or MySQL error of the last check, 0 when there was none.
    pub last_check_code: Gauge,
    /// Seconds of the Unix epoch at which the certificate that the last check saw ends, 0: it saw none.
    pub certificate_ends_unix_s: Gauge,
    told: Mutex<Told>,
}

/// What pages tell in words.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Why it is up, down or ejected; empty: nothing has happened yet.
    pub reason: String,
    /// How the last check ended.
    pub check: String,
    /// When the last check ended.
    pub checked_at: Option<SystemTime>,
    /// When its ejection ends.
    pub ejected_until: Option<SystemTime>,
}

/// A finished check, for [`ServerState::publish_check`].
#[derive(Clone, Debug)]
pub(crate) struct CheckResult<'a> {
    pub(crate) status: CheckStatus,
    pub(crate) code: Option<u16>,
    pub(crate) text: &'a str,
    pub(crate) duration: Duration,
    /// End of the certificate that the server showed.
    pub(crate) certificate_ends: Option<SystemTime>,
}

impl ServerState {
    pub(super) fn new(now: SystemTime) -> ServerState {
        ServerState {
            usable: AtomicBool::new(true),
            keeps: AtomicBool::new(true),
            came_up_us: AtomicU64::new(0),
            made: Instant::now(),
            has_address: true,
            vacant: AtomicBool::new(false),
            admin: AtomicU8::new(AdminState::Ready as u8),
            weight_set: AtomicU32::new(AS_CONFIGURED),
            limit_set: AtomicU32::new(AS_CONFIGURED),
            checks_paused: AtomicBool::new(false),
            passes: AtomicBool::new(true),
            held_up: AtomicBool::new(false),
            ejected: AtomicBool::new(false),
            life: AtomicU64::new(0),
            since_unix_ms: AtomicU64::new(unix_ms(now)),
            status: AtomicU8::new(CheckStatus::Unchecked as u8),
            checks: Counter::default(),
            failures: Counter::default(),
            downs: Counter::default(),
            ejections: Counter::default(),
            downtime_ms: Counter::default(),
            last_check_us: Gauge::default(),
            last_check_code: Gauge::default(),
            certificate_ends_unix_s: Gauge::default(),
            told: Mutex::default(),
        }
    }

    /// One for a name without an address: down, and not even used in panic.
    pub(super) fn unresolved(now: SystemTime) -> ServerState {
        ServerState {
            usable: AtomicBool::new(false),
            keeps: AtomicBool::new(false),
            passes: AtomicBool::new(false),
            has_address: false,
            ..ServerState::new(now)
        }
    }

    /// One for the place of a program, which is not there yet.
    pub(super) fn vacant(now: SystemTime) -> ServerState {
        ServerState {
            usable: AtomicBool::new(false),
            keeps: AtomicBool::new(false),
            vacant: AtomicBool::new(true),
            ..ServerState::new(now)
        }
    }

    /// Whether it is the place of a program that gets no requests, see [`super::processes`].
    pub fn is_vacant(&self) -> bool {
        self.vacant.load(Relaxed)
    }

    /// Sets it. Only the control thread may call it, and then [`super::Shared::settle`].
    pub(super) fn set_vacant(&self, vacant: bool) {
        self.vacant.store(vacant, Relaxed);
    }

    /// Notes why it is what it is. Only the control thread may call it.
    pub(super) fn tell_reason(&self, reason: &str) {
        self.tell(|told| reason.clone_into(&mut told.reason));
    }

    /// Whether requests may go to it: it is up, or its upstream is in panic; and the operator has not taken it out. What data
    /// workers ask.
    #[inline]
    pub fn is_usable(&self) -> bool {
        self.usable.load(Relaxed)
    }

    /// Whether requests of clients that belong there may go to it: as above, and while it is drained.
    #[inline]
    pub fn keeps_clients(&self) -> bool {
        self.keeps.load(Relaxed)
    }

    /// When it last came back: from down, ejected, drained or in maintenance to be used because it is up. `None`: it has
    /// always been used.
    pub fn came_up(&self) -> Option<Instant> {
        let us = self.came_up_us.load(Relaxed).checked_sub(1)?;
        Some(self.made + Duration::from_micros(us))
    }

    /// What the operator wants of it; a place whose program does not serve is in maintenance whatever that is.
    pub fn admin(&self) -> AdminState {
        if self.is_vacant() {
            return AdminState::Maintenance;
        }
        AdminState::ALL.get(usize::from(self.admin.load(Relaxed))).copied().unwrap_or(AdminState::Ready)
    }

    /// Sets what the operator wants of it. Only the control thread may call it, and then [`super::Shared::settle`].
    pub(crate) fn set_admin(&self, admin: AdminState) {
        self.admin.store(admin as u8, Relaxed);
    }

    /// Whether active checks pause: by order, or because it is in maintenance.
    pub fn is_unchecked(&self) -> bool {
        self.checks_paused() || self.admin() == AdminState::Maintenance
    }

    /// Whether the operator has told the active checks to pause: it stays what it is meanwhile.
    pub fn checks_paused(&self) -> bool {
        self.checks_paused.load(Relaxed)
    }

    /// Sets it. Only the control thread may call it.
    pub(super) fn pause_checks(&self, pause: bool) {
        self.checks_paused.store(pause, Relaxed);
    }

    /// The weight that the operator has given it; `None`: it has the config's.
    pub fn weight_set(&self) -> Option<u32> {
        Some(self.weight_set.load(Relaxed)).filter(|weight| *weight != AS_CONFIGURED)
    }

    /// Sets it. Only the control thread may call it, and then [`UpstreamFlags::publish_change`].
    pub(crate) fn set_weight(&self, weight: Option<u32>) {
        self.weight_set.store(weight.unwrap_or(AS_CONFIGURED), Relaxed);
    }

    /// Requests at once that the operator has allowed it, or any number; `None`: it has the config's limit.
    pub fn limit_set(&self) -> Option<Option<u32>> {
        match self.limit_set.load(Relaxed) {
            AS_CONFIGURED => None,
            0 => Some(None),
            limit => Some(Some(limit)),
        }
    }

    /// Sets it. Only the control thread may call it, and then [`super::Shared::align_limits`].
    pub(crate) fn set_limit(&self, limit: Option<Option<u32>>) {
        self.limit_set.store(limit.map_or(AS_CONFIGURED, |limit| limit.unwrap_or(0)), Relaxed);
    }

    /// Whether it is up: passes its checks and is not ejected.
    pub fn is_up(&self) -> bool {
        self.condition() == Condition::Up
    }

    /// Whether it passes its active checks.
    pub fn passes_checks(&self) -> bool {
        self.passes.load(Relaxed)
    }

    /// Whether it is ejected, also while it is down.
    pub fn is_ejected(&self) -> bool {
        self.ejected.load(Relaxed)
    }

    /// What it is, leaving panic aside.
    pub fn condition(&self) -> Condition {
        match (self.passes_checks(), self.is_ejected()) {
            (false, _) => Condition::Down,
            (true, true) => Condition::Ejected,
            (true, false) => Condition::Up,
        }
    }

    /// A number that changes whenever it comes back from an ejection.
    pub fn life(&self) -> u64 {
        self.life.load(Relaxed)
    }

    /// When its condition last changed, or the start of the process.
    pub fn since(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.since_unix_ms.load(Relaxed))
    }

    /// How the last check ended.
    pub fn check_status(&self) -> CheckStatus {
        CheckStatus::ALL.get(usize::from(self.status.load(Relaxed))).copied().unwrap_or(CheckStatus::Unchecked)
    }

    /// The same and more in words. Reader: the control thread.
    pub fn told(&self) -> Told {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Time spent down or ejected since the start, up to `now`.
    pub fn downtime(&self, now: SystemTime) -> Duration {
        let ended = Duration::from_millis(self.downtime_ms.value());
        if self.is_up() { ended } else { ended + now.duration_since(self.since()).unwrap_or_default() }
    }

    /// Notes a finished check. Only the control thread may call it.
    pub(crate) fn publish_check(&self, result: &CheckResult<'_>, now: SystemTime) {
        self.status.store(result.status as u8, Relaxed);
        self.last_check_us.set(result.duration.as_micros() as u64);
        self.last_check_code.set(u64::from(result.code.unwrap_or(0)));
        self.certificate_ends_unix_s.set(result.certificate_ends.map_or(0, |end| unix_ms(end) / 1000));
        self.checks.inc();
        if result.status.counts() && !result.status.is_ok() {
            self.failures.inc();
        }
        self.tell(|told| {
            result.text.clone_into(&mut told.check);
            told.checked_at = Some(now);
        });
    }

    /// Whether it is a worker of an application that was up until it no longer moved.
    pub(crate) fn is_held_up(&self) -> bool {
        self.held_up.load(Relaxed)
    }

    /// Only the control thread may call it.
    pub(crate) fn set_held_up(&self, is_held_up: bool) {
        self.held_up.store(is_held_up, Relaxed);
    }

    /// Notes what active checks say from now on, and why. Only the control thread may call it, and then
    /// [`super::Shared::settle`].
    pub(crate) fn publish_up(&self, up: bool, reason: &str, now: SystemTime) {
        self.change(now, reason, || self.passes.store(up, Relaxed));
    }

    /// Notes that it is ejected until then, or no longer, and why. Only the control thread may call it, and then
    /// [`super::Shared::settle`].
    pub(crate) fn publish_ejected(&self, until: Option<SystemTime>, reason: &str, now: SystemTime) {
        match until {
            Some(_) => self.ejections.inc(),
            None => self.life.store(self.life() + 1, Relaxed),
        }
        self.tell(|told| told.ejected_until = until);
        self.change(now, reason, || self.ejected.store(until.is_some(), Relaxed));
    }

    /// Lets data workers use it, or not, by what it is and whether its upstream is in panic; tells whether that is news.
    pub(super) fn set_usable(&self, is_panic: bool, now: Instant) -> bool {
        let (is_up, admin) = (self.is_up(), self.admin());
        let usable = admin == AdminState::Ready && (is_up || is_panic) && self.has_address;
        let keeps = usable || (admin == AdminState::Drain && is_up);
        let was_usable = self.usable.load(Relaxed);
        // One that is used in panic does not start slowly: the others are needed even more.
        if usable && !was_usable && is_up {
            let us = now.saturating_duration_since(self.made).as_micros() as u64;
            self.came_up_us.store(us + 1, Relaxed);
        }
        self.usable.store(usable, Relaxed);
        let kept = self.keeps.swap(keeps, Relaxed);
        usable != was_usable || keeps != kept
    }

    fn change(&self, now: SystemTime, reason: &str, change: impl FnOnce()) {
        let before = self.condition();
        change();
        let after = self.condition();
        if before == after {
            return;
        }
        // From ejected to down or back the spell goes on, though its time is added up in two parts.
        match before {
            Condition::Up => self.downs.inc(),
            Condition::Down | Condition::Ejected => self.add_downtime(now),
        }
        self.since_unix_ms.store(unix_ms(now), Relaxed);
        self.tell(|told| reason.clone_into(&mut told.reason));
    }

    fn add_downtime(&self, now: SystemTime) {
        let spell = now.duration_since(self.since()).unwrap_or_default();
        self.downtime_ms.add(spell.as_millis() as u64);
    }

    fn tell(&self, change: impl FnOnce(&mut Told)) {
        change(&mut self.told.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// What is known of an upstream as a whole. Writer: the control thread.
#[derive(Debug, Default)]
pub struct UpstreamFlags {
    /// Grows with each change that data workers must know: of a server, or of the tier.
    changes: AtomicU64,
    /// Number of the tier that is held, see [`crate::proxy::tiers`]; 0: the first one.
    tier_held: AtomicU32,
    /// A program, or a worker, that is to serve it is being started.
    is_coming: AtomicBool,
    /// Copies of requests on their way to it. Writers: the data workers.
    pub mirrored: AtomicUsize,
    panic: AtomicBool,
    /// Times it went into panic.
    pub panics: Counter,
}

impl UpstreamFlags {
    /// A number that is another one whenever a server of it, or its tier, has changed.
    #[inline]
    pub fn changes(&self) -> u64 {
        self.changes.load(Acquire)
    }

    /// Number of the tier that is used while it has enough servers, whatever others have; 0: the first one.
    pub fn tier_held(&self) -> u32 {
        self.tier_held.load(Relaxed)
    }

    /// Holds a tier. Only the control thread may call it.
    pub(super) fn publish_tier_held(&self, tier: u32) {
        if self.tier_held.swap(tier, Relaxed) != tier {
            self.publish_change();
        }
    }

    /// Whether a server is about to come, for which requests may wait.
    pub fn is_coming(&self) -> bool {
        self.is_coming.load(Relaxed)
    }

    /// Sets it. Only the control thread may call it.
    pub(super) fn set_coming(&self, is_coming: bool) {
        self.is_coming.store(is_coming, Relaxed);
    }

    /// Whoever sees this sees what was stored before.
    pub(super) fn publish_change(&self) {
        self.changes.fetch_add(1, Release);
    }

    /// So few servers are up that all of them get requests.
    pub fn is_panic(&self) -> bool {
        self.panic.load(Relaxed)
    }

    /// Notes it; tells whether that is news.
    pub(super) fn set_panic(&self, panic: bool) -> bool {
        let is_news = self.panic.swap(panic, Relaxed) != panic;
        if is_news && panic {
            self.panics.inc();
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_checks_survive_the_trip_through_their_number() {
        let now = SystemTime::now();
        let state = ServerState::new(now);
        for status in CheckStatus::ALL {
            let duration = Duration::from_millis(2);
            let result = CheckResult { status, code: Some(503), text: "", duration, certificate_ends: None };
            state.publish_check(&result, now);
            assert_eq!(state.check_status(), status);
        }
        let failed = CheckStatus::ALL.iter().filter(|status| status.counts() && !status.is_ok()).count() as u64;
        assert_eq!((state.checks.value(), state.failures.value(), failed), (12, 7, 7));
        assert_eq!((state.last_check_us.value(), state.last_check_code.value()), (2000, 503));
    }

    #[test]
    fn down_counts_before_ejected_and_the_time_of_both_adds_up() {
        let start = SystemTime::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let state = ServerState::new(start);
        state.publish_ejected(Some(at(30)), "5 failures in a row", at(10));
        assert_eq!((state.condition(), state.told().reason.as_str()), (Condition::Ejected, "5 failures in a row"));
        state.publish_up(false, "check tcp: connection refused", at(15));
        assert_eq!(state.condition(), Condition::Down);
        state.publish_ejected(None, "", at(30));
        assert_eq!((state.condition(), state.life()), (Condition::Down, 1));
        assert_eq!(state.told().reason, "check tcp: connection refused", "its condition has not changed");
        state.publish_up(true, "check tcp: connected", at(40));
        assert_eq!((state.condition(), state.downs.value(), state.ejections.value()), (Condition::Up, 1, 1));
        let milliseconds = state.downtime(at(50)).as_millis();
        assert!((29_990..=30_010).contains(&milliseconds), "{milliseconds}");
    }
}
