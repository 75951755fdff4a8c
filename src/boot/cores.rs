//! Which worker runs on which core.

use super::start::StartError;
use crate::config::model::{AppPlacement, Process};

/// Cores of the workers, one entry each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placement {
    pub(super) data: Vec<usize>,
    pub(super) app: Vec<usize>,
}

impl Placement {
    /// For data worker `data`: the application worker it asks first, and whether that is on its core. Without one there, one each in
    /// turn.
    pub(super) fn paired(&self, data: usize) -> (usize, bool) {
        match self.app.iter().position(|core| *core == self.data[data]) {
            Some(app) => (app, true),
            None => (if self.app.is_empty() { 0 } else { data % self.app.len() }, false),
        }
    }
}

/// Places the workers on the cores this process may use. `has_apps`: application workers are needed.
///
/// Errors: a core named in the config is not among `allowed`, or `separate` placement finds no core left.
pub(super) fn place(process: &Process, allowed: &[usize], has_apps: bool) -> Result<Placement, StartError> {
    let check = |name: &'static str, cores: &[usize]| match cores.iter().find(|core| !allowed.contains(core)) {
        None => Ok(()),
        Some(core) => Err(StartError::NoSuchCore { name, core: *core, allowed: allowed.to_vec() }),
    };
    check("data-cores", &process.data_cores)?;
    check("app-cores", &process.app_cores)?;
    let separate = has_apps && process.app_placement == AppPlacement::Separate;
    let data = match (process.data_cores.is_empty(), separate) {
        (false, _) => process.data_cores.clone(),
        (true, true) => {
            let free: Vec<_> = allowed.iter().copied().filter(|core| !process.app_cores.contains(core)).collect();
            match process.app_cores.is_empty() {
                true => free[..free.len().div_ceil(2)].to_vec(),
                false => free,
            }
        }
        (true, false) => allowed.to_vec(),
    };
    let app = match (has_apps, process.app_cores.is_empty(), separate) {
        (false, ..) => Vec::new(),
        (true, false, _) => process.app_cores.clone(),
        (true, true, false) => data.clone(),
        (true, true, true) => allowed.iter().copied().filter(|core| !data.contains(core)).collect(),
    };
    if data.is_empty() || (has_apps && app.is_empty()) {
        return Err(StartError::NoCoreLeft { allowed: allowed.to_vec() });
    }
    Ok(Placement { data, app })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(data: &[usize], app: &[usize], placement: AppPlacement, allowed: &[usize]) -> Option<[Vec<usize>; 2]> {
        let text = "[listener.web]\naddress = \"127.0.0.1:0\"\n[site.main]\ndefault = true\n\
                    [[site.main.route]]\npath = \"/\"\nrespond = { status = 204 }\n";
        let mut process = crate::config::parse("test.toml", text, &[]).unwrap().0.process;
        process.data_cores = data.to_vec();
        process.app_cores = app.to_vec();
        process.app_placement = placement;
        place(&process, allowed, true).ok().map(|placement| [placement.data, placement.app])
    }

    #[test]
    fn workers_are_placed_as_the_flags_say() {
        use AppPlacement::{Paired, Separate};
        type Cores = &'static [usize];
        type Case = (Cores, Cores, AppPlacement, Cores, Option<[Cores; 2]>);
        let cases: [Case; 8] = [
            (&[], &[], Paired, &[0, 1], Some([&[0, 1], &[0, 1]])),
            (&[], &[], Separate, &[0, 1, 2], Some([&[0, 1], &[2]])),
            (&[], &[], Separate, &[5], None),
            (&[1], &[], Paired, &[0, 1], Some([&[1], &[1]])),
            (&[1], &[], Separate, &[0, 1], Some([&[1], &[0]])),
            (&[], &[3], Separate, &[2, 3], Some([&[2], &[3]])),
            (&[0], &[0, 0], Paired, &[0], Some([&[0], &[0, 0]])),
            (&[7], &[], Paired, &[0, 1], None),
        ];
        for (data, app, placement, allowed, expected) in cases {
            let expected = expected.map(|cores| cores.map(<[usize]>::to_vec));
            assert_eq!(placed(data, app, placement, allowed), expected, "{data:?} {app:?} {placement:?} {allowed:?}");
        }
    }

    #[test]
    fn a_data_worker_asks_the_application_worker_of_its_core_first() {
        let placement = Placement { data: vec![0, 1, 2], app: vec![2, 1] };
        assert_eq!([0, 1, 2].map(|data| placement.paired(data)), [(0, false), (1, true), (0, true)]);
    }
}
