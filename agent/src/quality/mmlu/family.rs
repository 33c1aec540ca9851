//! Who is below whom in a run: groups, their groups, and the subtasks at the end.
//!
//! In: `group_subtasks` as the harness writes it. Out: the subtasks of a group, each once, sorted.
//! A ring of groups ends, because each name is visited once.

use std::collections::{BTreeMap, BTreeSet};

/// Group to children.
#[derive(Debug, Default)]
pub struct Family(BTreeMap<String, Vec<String>>);

impl Family {
    #[must_use]
    pub fn new(children: BTreeMap<String, Vec<String>>) -> Self {
        Self(children)
    }

    /// Whether the name has children; 0.4.2 may list a subtask with none.
    #[must_use]
    pub fn is_group(&self, task: &str) -> bool {
        self.0.get(task).is_some_and(|children| !children.is_empty())
    }

    /// The subtasks below the group; the task itself where it is none.
    #[must_use]
    pub fn subtasks<'a>(&'a self, task: &'a str) -> Vec<&'a str> {
        let mut visited = BTreeSet::new();
        let mut found = BTreeSet::new();
        let mut waiting = vec![task];
        while let Some(name) = waiting.pop() {
            if !visited.insert(name) {
                continue;
            }
            if self.is_group(name) {
                waiting.extend(self.0[name].iter().map(String::as_str));
            } else {
                found.insert(name);
            }
        }
        found.into_iter().collect()
    }
}
