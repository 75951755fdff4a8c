//! `variables = { … }`: texts under a name, which each level of the config may set anew.

use crate::util::template::{Own, OwnName, Template};

/// What one level sets, over what the levels above it do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetVariables {
    names: Vec<OwnName>,
    /// In the order of `names`.
    values: Vec<Template>,
}

impl SetVariables {
    /// Sets a variable, in place of one of the same name.
    pub fn set(&mut self, name: OwnName, value: Template) {
        match self.names.iter().position(|known| known.own == name.own) {
            Some(at) => self.values[at] = value,
            None => {
                self.names.push(name);
                self.values.push(value);
            }
        }
    }

    /// What is set, by name.
    pub fn names(&self) -> &[OwnName] {
        &self.names
    }

    /// What the variable with this number is worth.
    pub fn value(&self, number: u16) -> Option<&Template> {
        let at = self.names.iter().position(|known| known.own == Own::Set(number))?;
        self.values.get(at)
    }

    /// All values.
    pub fn values(&self) -> impl Iterator<Item = &Template> {
        self.values.iter()
    }
}
