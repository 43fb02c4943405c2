//! Lists that are empty nearly always, where there may be a million of them.

use std::collections::{VecDeque, vec_deque};

/// A list that takes eight bytes while it is empty, and no memory of its own.
#[allow(clippy::box_collection)] // a queue takes 32 bytes where there is nothing
#[derive(Debug)]
pub(crate) struct Rare<T>(Option<Box<VecDeque<T>>>);

impl<T> Default for Rare<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Rare<T> {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |list| list.len())
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        // Without a list that is empty: see `tidy`.
        self.0.is_none()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        self.0.as_mut()?.get_mut(at)
    }

    #[inline]
    pub(crate) fn iter(&self) -> vec_deque::Iter<'_, T> {
        match &self.0 {
            Some(list) => list.iter(),
            None => vec_deque::Iter::default(),
        }
    }

    #[inline]
    pub(crate) fn iter_mut(&mut self) -> vec_deque::IterMut<'_, T> {
        match &mut self.0 {
            Some(list) => list.iter_mut(),
            None => vec_deque::IterMut::default(),
        }
    }

    /// Puts one behind the others.
    pub(crate) fn push(&mut self, item: T) {
        let list = self.0.get_or_insert_default();
        // There is seldom more than one.
        if list.capacity() == 0 {
            list.reserve_exact(1);
        }
        list.push_back(item);
    }

    /// Takes the first one out.
    pub(crate) fn pop_first(&mut self) -> Option<T> {
        let item = self.0.as_mut()?.pop_front();
        self.tidy();
        item
    }

    /// Takes one out; the others keep their order.
    pub(crate) fn remove(&mut self, at: usize) -> Option<T> {
        let item = self.0.as_mut()?.remove(at);
        self.tidy();
        item
    }

    /// Takes one out; the last one takes its place.
    pub(crate) fn swap_remove(&mut self, at: usize) -> Option<T> {
        let item = self.0.as_mut()?.swap_remove_back(at);
        self.tidy();
        item
    }

    pub(crate) fn retain(&mut self, wanted: impl FnMut(&T) -> bool) {
        if let Some(list) = &mut self.0 {
            list.retain(wanted);
            self.tidy();
        }
    }

    fn tidy(&mut self) {
        if self.0.as_ref().is_some_and(|list| list.is_empty()) {
            self.0 = None;
        }
    }
}

impl<T> Extend<T> for Rare<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, items: I) {
        items.into_iter().for_each(|item| self.push(item));
    }
}

impl<T> FromIterator<T> for Rare<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut list = Self::default();
        list.extend(items);
        list
    }
}

impl<T> IntoIterator for Rare<T> {
    type Item = T;
    type IntoIter = vec_deque::IntoIter<T>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.map(|list| *list).unwrap_or_default().into_iter()
    }
}

impl<'a, T> IntoIterator for &'a Rare<T> {
    type Item = &'a T;
    type IntoIter = vec_deque::Iter<'a, T>;
    #[inline]
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a, T> IntoIterator for &'a mut Rare<T> {
    type Item = &'a mut T;
    type IntoIter = vec_deque::IterMut<'a, T>;
    #[inline]
    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn as_a_vector(steps: Vec<(u8, u8)>) {
            let mut list = Rare::default();
            let mut model = Vec::new();
            for (what, value) in steps {
                let at = usize::from(value) % 4;
                let there = at < model.len();
                match what % 6 {
                    0 | 1 => {
                        list.push(value);
                        model.push(value);
                    }
                    2 => prop_assert_eq!(list.remove(at), there.then(|| model.remove(at))),
                    3 => prop_assert_eq!(list.swap_remove(at), there.then(|| model.swap_remove(at))),
                    4 => {
                        let first = (!model.is_empty()).then(|| model.remove(0));
                        prop_assert_eq!(list.pop_first(), first);
                    }
                    _ => {
                        list.retain(|it| it % 3 != value % 3);
                        model.retain(|it| it % 3 != value % 3);
                    }
                }
                prop_assert!(list.iter().eq(&model) && list.iter_mut().eq(&model));
                prop_assert_eq!(list.get_mut(at).copied(), model.get(at).copied());
                prop_assert_eq!(list.is_empty(), model.is_empty());
                prop_assert_eq!(list.0.is_none(), model.is_empty());
            }
            prop_assert!(list.into_iter().eq(model));
        }
    }
}
