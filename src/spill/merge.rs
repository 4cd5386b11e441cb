//! K-way merge: which of many sorted sources has the least item next.
//!
//! A loser tree needs one comparison for each level, half of what a heap needs, and comparing calls
//! Python. Comparisons can fail, so each operation takes the comparison and returns its error.

use crate::error::Result;
use crate::memory;

/// A tournament between the next items of `k` sources.
///
/// Stable: among equal items that of the source with the lower number wins.
#[derive(Debug)]
pub struct LoserTree<T> {
    heads: Vec<Option<T>>,
    /// `nodes[0]` is the source that won; every other node has the one that lost there. The node
    /// above leaf `i` is `(k + i) / 2`, that above node `n` is `n / 2`. Each source stands in
    /// exactly one of them, always.
    nodes: Vec<usize>,
}

impl<T> LoserTree<T> {
    /// Takes the first item of every source; `None` is a source without any.
    ///
    /// # Errors
    /// What `less` returned.
    pub fn new(
        heads: Vec<Option<T>>,
        less: &mut impl FnMut(&T, &T) -> Result<bool>,
    ) -> Result<Self> {
        let k = heads.len();
        let mut tree = Self {
            nodes: memory::try_with_capacity(k, "a merge")?,
            heads,
        };
        tree.nodes.resize(k, 0);
        // Winners of the subtrees; leaves first, at k.., then upwards.
        let mut winners = memory::try_with_capacity(2 * k, "a merge")?;
        winners.resize(k, 0);
        winners.extend(0..k);
        for node in (1..k).rev() {
            let (Some(&one), Some(&other)) = (winners.get(2 * node), winners.get(2 * node + 1))
            else {
                continue;
            };
            let (winner, loser) = if tree.beats(one, other, less)? {
                (one, other)
            } else {
                (other, one)
            };
            set(&mut winners, node, winner);
            set(&mut tree.nodes, node, loser);
        }
        let winner = winners.get(1).copied().unwrap_or(0);
        set(&mut tree.nodes, 0, winner);
        Ok(tree)
    }

    /// The source that has the least item, and the item. `None` when all sources are at their end.
    pub fn winner(&self) -> Option<(usize, &T)> {
        let &source = self.nodes.first()?;
        let item = self.heads.get(source)?.as_ref()?;
        Some((source, item))
    }

    /// The items that wait, of all sources.
    pub fn items(&self) -> impl Iterator<Item = &T> {
        self.heads.iter().flatten()
    }

    /// Puts the next item of the winner's source in its place and returns the old one.
    ///
    /// # Errors
    /// What `less` returned. The old winner is dropped then, and the tree still has every other
    /// item once, but the winner it tells need not be the least one any more: give the merge up.
    pub fn replace_winner(
        &mut self,
        next: Option<T>,
        less: &mut impl FnMut(&T, &T) -> Result<bool>,
    ) -> Result<Option<T>> {
        let Some(&source) = self.nodes.first() else {
            return Ok(None);
        };
        let old = match self.heads.get_mut(source) {
            Some(head) => std::mem::replace(head, next),
            None => None,
        };
        let mut winner = source;
        let mut outcome = Ok(old);
        let mut node = (self.nodes.len() + source) >> 1;
        while node > 0 {
            let Some(&loser) = self.nodes.get(node) else {
                break;
            };
            match self.beats(loser, winner, less) {
                Ok(true) => {
                    set(&mut self.nodes, node, winner);
                    winner = loser;
                }
                Ok(false) => {}
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
            node /= 2;
        }
        set(&mut self.nodes, 0, winner);
        outcome
    }

    /// Whether the item of source `a` comes before that of source `b`.
    fn beats(
        &self,
        a: usize,
        b: usize,
        less: &mut impl FnMut(&T, &T) -> Result<bool>,
    ) -> Result<bool> {
        match (
            self.heads.get(a).and_then(Option::as_ref),
            self.heads.get(b).and_then(Option::as_ref),
        ) {
            (Some(one), Some(other)) if a < b => Ok(!less(other, one)?),
            (Some(one), Some(other)) => less(one, other),
            (one, _) => Ok(one.is_some()),
        }
    }
}

fn set(nodes: &mut [usize], node: usize, source: usize) {
    if let Some(slot) = nodes.get_mut(node) {
        *slot = source;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::error::Error;
    use proptest::prelude::*;
    use std::rc::Rc;

    type Item = (u8, usize, usize);

    /// Compares by the first field only; the others say where an item comes from.
    #[allow(clippy::unnecessary_wraps)]
    fn by_key(a: &Item, b: &Item) -> Result<bool> {
        Ok(a.0 < b.0)
    }

    fn merged(sources: &[Vec<u8>]) -> Vec<Item> {
        let mut sources: Vec<_> = sources
            .iter()
            .enumerate()
            .map(|(source, keys)| {
                let items: Vec<Item> = keys
                    .iter()
                    .enumerate()
                    .map(|(i, &key)| (key, source, i))
                    .collect();
                items.into_iter()
            })
            .collect();
        let heads = sources.iter_mut().map(Iterator::next).collect();
        let mut tree = LoserTree::new(heads, &mut by_key).unwrap();
        let mut all = Vec::new();
        while let Some((source, _)) = tree.winner() {
            let next = sources.get_mut(source).unwrap().next();
            all.push(tree.replace_winner(next, &mut by_key).unwrap().unwrap());
        }
        assert_eq!(tree.replace_winner(None, &mut by_key).unwrap(), None);
        all
    }

    proptest! {
        #[test]
        fn merging_is_a_stable_sort(
            mut sources in prop::collection::vec(prop::collection::vec(0..6_u8, 0..12), 0..12),
        ) {
            let mut wanted = Vec::new();
            for (source, keys) in sources.iter_mut().enumerate() {
                keys.sort_unstable();
                wanted.extend(keys.iter().enumerate().map(|(i, &key)| (key, source, i)));
            }
            wanted.sort_by_key(|item: &Item| item.0);
            prop_assert_eq!(merged(&sources), wanted);
        }

        #[test]
        fn a_failed_comparison_loses_no_other_item(
            keys in prop::collection::vec(0..9_u8, 1..9),
            fails_at in 0..20_usize,
        ) {
            let items: Vec<_> = keys.iter().map(|&key| Rc::new(key)).collect();
            let mut calls = 0;
            let mut less = |a: &Rc<u8>, b: &Rc<u8>| {
                calls += 1;
                if calls == fails_at + 1 {
                    return Err(Error::Usage("no".to_owned()));
                }
                Ok(a < b)
            };
            let heads = items.iter().cloned().map(Some).collect();
            if let Ok(mut tree) = LoserTree::new(heads, &mut less) {
                let mut left = items.len();
                let mut failed = false;
                while tree.winner().is_some() {
                    failed |= tree.replace_winner(None, &mut less).is_err();
                    left -= 1;
                    let held = items.iter().filter(|item| Rc::strong_count(item) == 2).count();
                    prop_assert_eq!(held, left);
                    let mut sources = tree.nodes.clone();
                    sources.sort_unstable();
                    prop_assert!(sources.into_iter().eq(0..items.len()));
                    if failed { break; }
                }
            }
            for item in items {
                prop_assert_eq!(Rc::strong_count(&item), 1);
            }
        }
    }

    #[test]
    fn no_source_and_only_empty_ones_have_no_winner() {
        let none = LoserTree::new(Vec::new(), &mut by_key).unwrap();
        assert_eq!(none.winner(), None);
        let empty = LoserTree::new(vec![None, None, None], &mut by_key).unwrap();
        assert_eq!(empty.winner(), None);
    }

    #[test]
    fn a_replay_takes_one_comparison_a_level() {
        let mut calls = 0;
        let mut less = |a: &u32, b: &u32| {
            calls += 1;
            Ok(a < b)
        };
        let mut tree = LoserTree::new((0..16).map(Some).collect(), &mut less).unwrap();
        tree.replace_winner(Some(99), &mut less).unwrap();
        assert_eq!(calls, 15 + 4);
        assert_eq!(tree.winner(), Some((1, &1)));
    }
}
