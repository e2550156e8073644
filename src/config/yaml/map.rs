//! A map that keeps its keys in the order of the file.

use std::{borrow::Cow, collections::HashMap, slice};

use super::document::MapEntry;

/// The maximum number of keys for linear search, which is faster and smaller than hashing for few keys.
const MAX_LINEAR_KEYS: usize = 16;

/// The hasher of names, which are usually short.
pub(crate) type NameHasher = foldhash::fast::RandomState;

/// A map of unique keys in the order of the file. Small maps are compact, because a plan has a map or two for each
/// task.
#[derive(Debug, Clone, Default)]
pub(crate) struct Map<'s> {
    entries: Vec<(Cow<'s, str>, MapEntry<'s>)>,
    /// The index of each key, if there are more than [`MAX_LINEAR_KEYS`].
    #[expect(clippy::box_collection, reason = "few maps have it, and all of them have room for it")]
    indices: Option<Box<HashMap<Cow<'s, str>, usize, NameHasher>>>,
}

impl<'s> Map<'s> {
    fn index_of(&self, key: &str) -> Option<usize> {
        match &self.indices {
            Some(places) => places.get(key).copied(),
            None => self.entries.iter().position(|(known, _)| known == key),
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&MapEntry<'s>> {
        self.index_of(key).map(|place| &self.entries[place].1)
    }

    pub(crate) fn contains_key(&self, key: &str) -> bool {
        self.index_of(key).is_some()
    }

    /// Adds an entry and returns true, or returns false and changes nothing if the key exists.
    pub(crate) fn insert(&mut self, key: Cow<'s, str>, entry: MapEntry<'s>) -> bool {
        if self.contains_key(&key) {
            return false;
        }
        if let Some(places) = &mut self.indices {
            places.insert(key.clone(), self.entries.len());
        }
        self.entries.push((key, entry));
        if self.indices.is_none() && self.entries.len() > MAX_LINEAR_KEYS {
            let places = self.entries.iter().enumerate().map(|(place, (key, _))| (key.clone(), place));
            self.indices = Some(Box::new(places.collect()));
        }
        true
    }

    /// Releases the unused capacity.
    pub(crate) fn shrink_to_fit(&mut self) {
        self.entries.shrink_to_fit();
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn first(&self) -> Option<&(Cow<'s, str>, MapEntry<'s>)> {
        self.entries.first()
    }

    pub(crate) fn last(&self) -> Option<&(Cow<'s, str>, MapEntry<'s>)> {
        self.entries.last()
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &MapEntry<'s>> {
        self.entries.iter().map(|(_, entry)| entry)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut MapEntry<'s>)> {
        self.entries.iter_mut().map(|(key, entry)| (&**key, entry))
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut MapEntry<'s>> {
        self.iter_mut().map(|(_, entry)| entry)
    }
}

impl<'m, 's> IntoIterator for &'m Map<'s> {
    type Item = &'m (Cow<'s, str>, MapEntry<'s>);
    type IntoIter = slice::Iter<'m, (Cow<'s, str>, MapEntry<'s>)>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.iter()
    }
}

/// Keeps the first of several entries with the same key.
impl<'s> FromIterator<(Cow<'s, str>, MapEntry<'s>)> for Map<'s> {
    fn from_iter<I: IntoIterator<Item = (Cow<'s, str>, MapEntry<'s>)>>(entries: I) -> Self {
        let mut map = Self::default();
        for (key, entry) in entries {
            map.insert(key, entry);
        }
        map.shrink_to_fit();
        map
    }
}
