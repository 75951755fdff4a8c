//! CPU cores: which ones this process may use, and pinning the current thread to one.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The cores this process may run on, ascending. Source: sched_getaffinity(2).
pub fn allowed() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect())
}

/// Pins the current thread to `core`.
///
/// Errors: what sched_setaffinity(2) reports, `EINVAL` for a core that does not exist or is not allowed.
pub fn pin(core: usize) -> io::Result<()> {
    if core >= CpuSet::MAX_CPU {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

/// Gives the current thread less of the processor than the others of the process get, by so much more of nice(2), which Linux
/// counts for each thread. A system that does not allow it changes nothing.
pub fn step_back(nice: i32) {
    let _ = rustix::process::nice(nice);
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_allowed_core_can_be_pinned_and_an_absent_one_cannot() {
        std::thread::spawn(|| {
            let cores = super::allowed().unwrap();
            super::pin(cores[0]).unwrap();
            assert_eq!(super::allowed().unwrap(), [cores[0]]);
            assert!(super::pin(1023).is_err());
            assert!(super::pin(1 << 40).is_err());
        })
        .join()
        .unwrap();
    }
}
