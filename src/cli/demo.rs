//! The demo site. (Stand-in until the module of this name is merged.)

use super::{DemoArgs, Failure};
use crate::config::Config;

/// Config of the demo site.
pub fn config(args: &DemoArgs) -> Result<Config, Failure> {
    args.defaults().config().map_err(Failure::new)
}
