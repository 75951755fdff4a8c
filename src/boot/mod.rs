//! Process life. (Stand-in until the module of this name is merged.)

/// Runs until told to stop.
pub fn run(config: crate::config::Config, _apps: crate::app::Registry) -> std::process::ExitCode {
    println!("{} listeners", config.listeners.len());
    std::process::ExitCode::SUCCESS
}
