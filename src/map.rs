//! [`AppendOnlyMap`]: from a key to its row.
//!
//! The map knows nothing of combiners: the row it gives is the row of the combiner in the column
//! that an [`Aggregate`](crate::aggregate::Aggregate) keeps. Keys are never removed one by one, so
//! rows are numbers from 0 in insertion order and the map needs neither tombstones nor links.

use crate::column::KeyColumn;
use crate::error::{Error, Result};
use crate::memory::{self, try_grow, try_grow_exact};

/// Rows are numbered in 32 bits, which halves the index, and slots in the bits of a tag. A table
/// this large is over the memory of any worker long before.
pub const MAX_ROWS: usize = (1 << TAG_BITS) / 10 * FULL_TENTHS;

/// Slots of the smallest index.
const FEWEST_SLOTS: usize = 16;

/// An index that is fuller than this many tenths is doubled: longer chains cost more than room.
const FULL_TENTHS: usize = 7;

/// An allocator keeps what a table of some MiB has outgrown, and the table goes on growing beside it.
const WORTH_GIVING_BACK: usize = 1 << 20;

/// glibc makes what has as many bytes larger without a copy, for which both would be there.
const GROWS_IN_PLACE: usize = if cfg!(all(target_os = "linux", target_env = "gnu")) {
    32 << 20
} else {
    usize::MAX
};

/// The hash of a key.
#[derive(Clone, Copy, Debug)]
pub struct KeyHash {
    /// Spread over all bits; keys that are the same have the same.
    pub bits: u64,
    /// Whether of all keys so marked only one has these bits, which then need no look at the key.
    pub is_unique: bool,
}

impl KeyHash {
    /// Of Python's hash. That of an int is the int: mixed, its bits serve the table and the
    /// partitions.
    #[inline]
    pub const fn of_python(hash: i64, is_unique: bool) -> Self {
        Self {
            bits: mix(hash.cast_unsigned()),
            is_unique,
        }
    }
}

/// Every bit of the result depends on every bit of `bits`, and no two `bits` have the same: the
/// finalizer of splitmix64.
#[inline]
pub const fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// One slot of the index: the row plus one, whether it was put there since the index last grew,
/// whether its hash is unique, and as much of its hash as fits beside them, so that a probe that
/// meets another key is told so without a look at the key. Zero is a free slot.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Slot(u64);

impl Slot {
    #[inline]
    const fn new(hash: KeyHash, row: usize) -> Self {
        Self((hash.bits & TAG) | ((hash.is_unique as u64) << UNIQUE_BIT) | (row as u64 + 1))
    }

    #[inline]
    const fn is_free(self) -> bool {
        self.0 == 0
    }

    #[inline]
    const fn has_tag_of(self, hash: KeyHash) -> bool {
        (self.0 ^ hash.bits) & TAG == 0
    }

    #[inline]
    const fn is_unique(self) -> bool {
        (self.0 >> UNIQUE_BIT) & 1 == 1
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation)] // rows have fewer bits
    const fn row(self) -> usize {
        (self.0 & (TURN - 1)) as usize - 1
    }

    /// The same as put into the index in that turn: 0, or `TURN`.
    #[inline]
    const fn in_turn(self, turn: u64) -> Self {
        Self(self.0 & !TURN | turn)
    }

    /// Whether it was put there in that turn.
    #[inline]
    const fn is_of(self, turn: u64) -> bool {
        self.0 & TURN == turn
    }
}

/// The bit above the row: there are fewer rows than slots, and no more slots than a tag tells apart.
const TURN: u64 = 1 << TAG_BITS;
const _: () = assert!((MAX_ROWS as u64) < TURN);

/// The bit above that.
const UNIQUE_BIT: u32 = u32::BITS;

/// The upper half of a hash, without its last bit.
const TAG: u64 = u64::MAX << (UNIQUE_BIT + 1);
const TAG_BITS: u32 = TAG.count_ones();

/// Where rows are found by hash: open addressing, one slot after the other.
///
/// The place of a hash is told by its uppermost bits, as many as there are slots for. Those are in
/// the tag: so an index is made larger by its slots alone, without a look at the keys, and where it
/// is: memory has to come up with no more than it grows by, where it need not be moved, and is gone
/// over from end to end.
///
/// A probe of a table larger than the cache costs what its misses cost. Here that is one, for
/// tag and row together, found or not; hashbrown's `HashTable`, which this was, has its tags in
/// a place of their own and takes two to find a row and three to add one.
#[derive(Default)]
struct Index {
    /// As many as a power of two, or none.
    slots: Vec<Slot>,
    /// The bits of a hash that do not tell its place.
    shift: u32,
    len: usize,
    /// That of the slots: 0 or `TURN`, by turns as the index grows.
    turn: u64,
}

/// Where a key may be added that was not found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vacant(usize);

/// Where looking for a key starts, and the slot that is there.
#[derive(Clone, Copy, Default)]
pub struct Start(usize, Slot);

impl Start {
    /// The row of the key that is compared first, to be prefetched.
    #[inline]
    pub fn row(self) -> Option<usize> {
        (!self.1.is_free()).then(|| self.1.row())
    }
}

/// What looking for a key comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It is in that row.
    Row(usize),
    /// It is not there.
    Vacant(Vacant),
}

impl Index {
    /// The slots of a chain, one after the other, without an end where there are any: there is
    /// always a free slot, at which every caller stops.
    #[inline]
    fn probe(&self, mut place: usize) -> impl Iterator<Item = (usize, Slot)> + '_ {
        let slots = self.slots.as_slice();
        let mask = slots.len().wrapping_sub(1);
        std::iter::from_fn(move || {
            let found = (place, *slots.get(place)?);
            place = (place + 1) & mask;
            Some(found)
        })
    }

    /// Where the slots of a hash start.
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // it is below the number of slots
    fn place(&self, hash: u64) -> usize {
        hash.checked_shr(self.shift).unwrap_or(0) as usize
    }

    #[inline]
    fn free_place(&self, hash: u64) -> Vacant {
        let mut slots = self.probe(self.place(hash));
        let free = slots.find(|(_, slot)| slot.is_free());
        Vacant(free.map_or(usize::MAX, |(place, _)| place))
    }

    #[inline]
    fn put(&mut self, Vacant(place): Vacant, added: Slot) {
        if let Some(slot) = self.slots.get_mut(place) {
            *slot = added.in_turn(self.turn);
            self.len += 1;
        }
    }

    fn remove(&mut self, hash: u64, row: usize) {
        let is_end = |slot: Slot| slot.is_free() || slot.row() == row;
        let found = self.probe(self.place(hash)).find(|&(_, slot)| is_end(slot));
        let Some((mut gap, _)) = found.filter(|(_, slot)| !slot.is_free()) else {
            return;
        };
        // What follows without a gap moves up, unless it would stand before its place then.
        let mask = self.slots.len().wrapping_sub(1);
        let mut next = (gap + 1) & mask;
        while let Some(&slot) = self.slots.get(next)
            && !slot.is_free()
        {
            let way = next.wrapping_sub(self.place(slot.0)) & mask;
            if way >= next.wrapping_sub(gap) & mask {
                self.set(gap, slot);
                gap = next;
            }
            next = (next + 1) & mask;
        }
        self.set(gap, Slot::default());
        self.len -= 1;
    }

    fn set(&mut self, place: usize, to: Slot) {
        if let Some(slot) = self.slots.get_mut(place) {
            *slot = to;
        }
    }

    fn slots_for(rows: usize) -> usize {
        (rows.saturating_mul(10) / FULL_TENTHS + 1)
            .next_power_of_two()
            .max(FEWEST_SLOTS)
    }

    /// Makes room for `rows` rows.
    fn reserve(&mut self, rows: usize) -> Result<()> {
        if rows * 10 <= self.slots.len() * FULL_TENTHS {
            return Ok(());
        }
        let before = self.slots.len();
        let slots = Self::slots_for(rows);
        try_grow_exact(&mut self.slots, slots.saturating_sub(before), WHAT)?;
        self.slots.resize(slots, Slot::default());
        self.shift = u64::BITS - slots.trailing_zeros();
        self.turn ^= TURN;
        // From the last one on: their places are most often behind where they are, which is free.
        for place in (0..before).rev() {
            self.put_anew(place);
        }
        if before * size_of::<Slot>() >= WORTH_GIVING_BACK {
            memory::give_back();
        }
        Ok(())
    }

    /// Moves what is at `place` to where it belongs since the index has grown, and what is there and
    /// was not moved yet to where that belongs, and so on. What was moved stays: so there is no gap
    /// before it.
    #[inline]
    fn put_anew(&mut self, place: usize) {
        let turn = self.turn;
        let old = self.slots.get_mut(place).filter(|old| !old.is_of(turn));
        let mut moving = old.map(std::mem::take).unwrap_or_default();
        while !moving.is_free() {
            let is_open = |slot: Slot| slot.is_free() || !slot.is_of(turn);
            let found = self
                .probe(self.place(moving.0))
                .find(|&(_, slot)| is_open(slot));
            match found.and_then(|(open, _)| self.slots.get_mut(open)) {
                Some(slot) => moving = std::mem::replace(slot, moving.in_turn(turn)),
                None => return,
            }
        }
    }
}

const WHAT: &str = "the table of keys";

/// So many keys are looked up at once: what was asked of memory for these is still in the first cache
/// when it is looked at.
const CHUNK_KEYS: usize = 64;

/// Up to so many bytes a table is near enough to ask nothing of memory.
const NEAR_BYTES: usize = 512 << 10;

/// Keys that are looked up together, by their place from 0.
pub trait Keys<K: KeyColumn> {
    /// The one at that place, to be looked for.
    fn probe(&self, at: usize) -> K::Probe<'_>;

    /// Appends the one at that place to the keys of a map.
    fn add_to(&self, known: &mut K, at: usize) -> Result<()>;
}

/// Hash table from key to row, in insertion order.
pub struct AppendOnlyMap<K> {
    index: Index,
    /// Of each row; of none, where the keys tell their hashes themselves.
    hashes: Vec<u64>,
    keys: K,
}

impl<K: KeyColumn> AppendOnlyMap<K> {
    /// An empty map that numbers the keys it puts into `keys`, which must be empty.
    pub fn new(keys: K) -> Self {
        Self {
            index: Index::default(),
            hashes: Vec::new(),
            keys,
        }
    }

    /// Number of keys.
    #[inline]
    pub fn len(&self) -> usize {
        self.index.len
    }

    /// Whether there is no key yet.
    pub fn is_empty(&self) -> bool {
        self.index.len == 0
    }

    /// The bits of the hash of the key in `row`.
    #[inline]
    pub fn hash(&self, row: usize) -> Option<u64> {
        self.keys
            .hash(row)
            .or_else(|| self.hashes.get(row).copied())
    }

    /// The keys, by row.
    pub fn keys(&self) -> &K {
        &self.keys
    }

    /// The keys, to be taken out row by row when the map has served.
    pub fn keys_mut(&mut self) -> &mut K {
        &mut self.keys
    }

    /// Asks memory for the place of a key of that hash, which is needed soon.
    #[inline]
    pub fn prefetch(&self, hash: KeyHash) {
        let place = self.index.place(hash.bits);
        if let Some(slot) = self.index.slots.get(place) {
            memory::prefetch(slot);
        }
    }

    /// Where looking for a key of that hash comes to a key to be compared with, or to its end.
    #[inline]
    pub fn start(&self, hash: KeyHash) -> Start {
        let mut slots = self.index.probe(self.index.place(hash.bits));
        let found = slots.find(|(_, slot)| slot.is_free() || slot.has_tag_of(hash));
        found.map_or(Start(usize::MAX, Slot::default()), |(place, slot)| {
            Start(place, slot)
        })
    }

    /// Where looking starts, with no look at what is there.
    #[inline]
    fn first(&self, hash: KeyHash) -> Start {
        Start(self.index.place(hash.bits), Slot::default())
    }

    /// The row of `key`, or where it is to be [`push`](Self::push)ed. Fails where comparing two
    /// keys fails.
    #[inline]
    pub fn find(&self, hash: KeyHash, key: K::Probe<'_>) -> Result<Found> {
        self.find_from(self.first(hash), hash, key)
    }

    /// The same from a [`start`](Self::start) on, with no [`make_room`](Self::make_room) since.
    #[inline(always)]
    #[allow(clippy::inline_always)] // once a record: the call costs as much as what it does
    pub fn find_from(
        &self,
        Start(start, _): Start,
        hash: KeyHash,
        key: K::Probe<'_>,
    ) -> Result<Found> {
        for (place, slot) in self.index.probe(start) {
            if slot.is_free() {
                return Ok(Found::Vacant(Vacant(place)));
            }
            if !slot.has_tag_of(hash) {
                continue;
            }
            let row = slot.row();
            let is_same = if hash.is_unique && slot.is_unique() {
                self.hash(row) == Some(hash.bits)
            } else {
                self.keys.is_same(row, key)?
            };
            if is_same {
                return Ok(Found::Row(row));
            }
        }
        Ok(Found::Vacant(Vacant(usize::MAX)))
    }

    /// Finds each of `keys`, or adds it, with room [made](Self::make_room_for) for all: `see` is
    /// told the place and the row of each, and whether it is new. `hashes` are theirs; `prefetch`
    /// asks memory for what else is needed of a row.
    ///
    /// In chunks, for which memory is asked for the slots, then for the keys, before these are
    /// looked at.
    pub fn find_each(
        &mut self,
        hashes: &[KeyHash],
        keys: &impl Keys<K>,
        prefetch: impl Fn(usize),
        mut see: impl FnMut(usize, usize, bool),
    ) -> Result<()> {
        if self.heap_bytes() <= NEAR_BYTES {
            for (at, hash) in hashes.iter().enumerate() {
                self.find_one(self.first(*hash), *hash, keys, at, &mut see)?;
            }
            return Ok(());
        }
        let mut chunks = hashes.chunks(CHUNK_KEYS).peekable();
        self.prefetch_all(chunks.peek());
        let mut starts = [Start::default(); CHUNK_KEYS];
        let mut at = 0;
        while let Some(hashes) = chunks.next() {
            self.prefetch_all(chunks.peek());
            for (start, hash) in starts.iter_mut().zip(hashes) {
                *start = self.start(*hash);
                if let Some(row) = start.row() {
                    self.keys.prefetch(row);
                    prefetch(row);
                }
            }
            if self.keys.is_long() {
                for row in starts.iter().filter_map(|start| start.row()) {
                    self.keys.prefetch_long(row);
                }
            }
            for (start, hash) in starts.iter().zip(hashes) {
                self.find_one(*start, *hash, keys, at, &mut see)?;
                at += 1;
            }
        }
        Ok(())
    }

    #[inline(always)]
    #[allow(clippy::inline_always)] // once a record: the call costs as much as what it does
    fn find_one(
        &mut self,
        start: Start,
        hash: KeyHash,
        keys: &impl Keys<K>,
        at: usize,
        see: &mut impl FnMut(usize, usize, bool),
    ) -> Result<()> {
        match self.find_from(start, hash, keys.probe(at))? {
            Found::Row(row) => see(at, row, false),
            Found::Vacant(vacant) => {
                self.push(hash, vacant, |known| keys.add_to(known, at))?;
                see(at, self.len() - 1, true);
            }
        }
        Ok(())
    }

    #[inline]
    fn prefetch_all(&self, hashes: Option<&&[KeyHash]>) {
        for hash in hashes.into_iter().copied().flatten() {
            self.prefetch(*hash);
        }
    }

    /// Where a key of that hash is to be pushed, which is known not to be there.
    pub fn vacant(&self, hash: KeyHash) -> Vacant {
        self.index.free_place(hash.bits)
    }

    /// Keeps the hashes that the keys made themselves so far: to be called before they become
    /// others, which make none.
    pub fn keep_hashes(&mut self) -> Result<()> {
        let rows = self.hashes.len()..self.len();
        try_grow(&mut self.hashes, rows.len(), WHAT)?;
        for row in rows {
            self.hashes.push(self.keys.hash(row).unwrap_or(0));
        }
        Ok(())
    }

    /// Makes room for one more key, so that the next [`push`](Self::push) asks for no memory.
    pub fn make_room(&mut self) -> Result<()> {
        self.make_room_for(1)?;
        self.keys.make_room()
    }

    /// Makes room for so many more keys, but for what the key column needs.
    pub fn make_room_for(&mut self, more: usize) -> Result<()> {
        let rows = self.len().saturating_add(more);
        if rows > MAX_ROWS {
            return Err(Error::OutOfMemory {
                wanted: MAX_ROWS,
                what: WHAT,
            });
        }
        self.index.reserve(rows)?;
        if !self.keys.makes_hashes() {
            try_grow(&mut self.hashes, more, WHAT)?;
        }
        Ok(())
    }

    /// Bytes that the index grows by, all at once, when so many keys are added; 0 where it has
    /// room for them.
    pub fn growth_for(&self, keys: usize) -> usize {
        let slots = Index::slots_for(self.len().saturating_add(keys));
        let before = self.index.slots.len();
        if slots <= before {
            return 0;
        }
        let kept = before * size_of::<Slot>();
        let kept = if kept >= GROWS_IN_PLACE { kept } else { 0 };
        slots * size_of::<Slot>() - kept
    }

    /// Makes room for `rows` keys in all, where there is as much memory.
    pub fn reserve(&mut self, rows: usize) {
        let more = rows.saturating_sub(self.len());
        // What is not had now is asked for again when it is needed, with an error then.
        let _ = self.make_room_for(more);
        self.keys.reserve(more);
    }

    /// Adds a key where [`find`](Self::find) did not find it, with [`make_room`](Self::make_room)
    /// before that and nothing since; `add` appends it to the keys. Where that fails, the map is
    /// as it was.
    #[inline]
    pub fn push(
        &mut self,
        hash: KeyHash,
        vacant: Vacant,
        add: impl FnOnce(&mut K) -> Result<()>,
    ) -> Result<()> {
        add(&mut self.keys)?;
        let row = self.index.len;
        if !self.keys.makes_hashes() {
            self.hashes.push(hash.bits);
        }
        self.index.put(vacant, Slot::new(hash, row));
        Ok(())
    }

    /// Forgets the keys from `rows` on; the caller takes them out of the key column then.
    pub fn truncate(&mut self, rows: usize) {
        for row in rows..self.len() {
            if let Some(bits) = self.hash(row) {
                self.index.remove(bits, row);
            }
        }
        self.hashes.truncate(rows);
    }

    /// Bytes allocated by the map and its key column.
    pub fn heap_bytes(&self) -> usize {
        self.index.slots.capacity() * size_of::<Slot>()
            + self.hashes.capacity() * size_of::<u64>()
            + self.keys.heap_bytes()
    }

    /// Forgets all keys and keeps the memory for as many again.
    pub fn reset(&mut self) {
        self.index.slots.fill(Slot::default());
        self.index.len = 0;
        self.hashes.clear();
        self.keys.reset();
    }

    /// Forgets all keys and gives the memory back: capacity too, not only length.
    pub fn clear(&mut self) {
        self.index = Index::default();
        self.hashes = Vec::new();
        self.keys.clear();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::column::Column;

    /// Keys that count how often they are compared, and refuse to be compared with `poison`.
    #[derive(Default)]
    struct Words {
        rows: Vec<String>,
        poison: Option<String>,
    }

    impl Column for Words {
        fn len(&self) -> usize {
            self.rows.len()
        }
        fn make_room(&mut self) -> Result<()> {
            Ok(())
        }
        fn reserve(&mut self, more: usize) {
            self.rows.reserve(more);
        }
        fn heap_bytes(&self) -> usize {
            self.rows.capacity() * size_of::<String>()
        }
        fn reset(&mut self) {
            self.rows.clear();
        }
        fn clear(&mut self) {
            self.rows = Vec::new();
        }
    }

    impl KeyColumn for Words {
        type Probe<'a> = &'a str;
        fn is_same(&self, row: usize, probe: &str) -> Result<bool> {
            if self.poison.as_deref() == Some(probe) {
                return Err(Error::Usage("poison".into()));
            }
            Ok(self.rows.get(row).is_some_and(|word| word == probe))
        }
    }

    fn plain(bits: u64) -> KeyHash {
        let is_unique = false;
        KeyHash { bits, is_unique }
    }

    fn unique(bits: u64) -> KeyHash {
        let is_unique = true;
        KeyHash { bits, is_unique }
    }

    fn row_of(map: &AppendOnlyMap<Words>, hash: KeyHash, word: &str) -> Option<usize> {
        match map.find(hash, word).unwrap() {
            Found::Row(row) => Some(row),
            Found::Vacant(_) => None,
        }
    }

    fn add(map: &mut AppendOnlyMap<Words>, hash: KeyHash, word: &str) -> usize {
        map.make_room().unwrap();
        let vacant = match map.find(hash, word).unwrap() {
            Found::Row(row) => return row,
            Found::Vacant(vacant) => vacant,
        };
        assert_eq!(vacant, map.vacant(hash));
        let push = |words: &mut Words| {
            words.rows.push(word.to_owned());
            Ok(())
        };
        map.push(hash, vacant, push).unwrap();
        map.len() - 1
    }

    fn hash_of(word: &str) -> KeyHash {
        plain(word.bytes().fold(7, |hash, byte| {
            (hash ^ u64::from(byte))
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(29)
        }))
    }

    #[test]
    fn rows_are_numbered_in_insertion_order() {
        let mut map = AppendOnlyMap::new(Words::default());
        let words: Vec<String> = (0..5000)
            .map(|i| format!("word-{}", i * 7919 % 5000))
            .collect();
        for (row, word) in words.iter().enumerate() {
            assert_eq!(add(&mut map, hash_of(word), word), row);
        }
        for (row, word) in words.iter().enumerate() {
            assert_eq!(row_of(&map, hash_of(word), word), Some(row));
        }
        assert_eq!(map.keys().rows, words);
        assert_eq!(row_of(&map, hash_of("absent"), "absent"), None);
    }

    impl Keys<Words> for Vec<String> {
        fn probe(&self, at: usize) -> &str {
            self.get(at).map_or("", String::as_str)
        }
        fn add_to(&self, known: &mut Words, at: usize) -> Result<()> {
            known.rows.extend(self.get(at).cloned());
            Ok(())
        }
    }

    #[test]
    fn keys_are_found_together_as_they_are_one_by_one() {
        let mut map = AppendOnlyMap::new(Words::default());
        let mut one_by_one = AppendOnlyMap::new(Words::default());
        let word = |i: usize| format!("word-{}", mix(i as u64) % 70_000);
        // Batches of any length, from a near table to a far one, with keys that come twice in one.
        let lengths = [0, 1, 63, 64, 65, 500, 2_000, 60_000, 130, 100_000];
        let mut first = 0;
        for length in lengths {
            let words: Vec<_> = (first..first + length).map(word).collect();
            first += length;
            let hashes: Vec<_> = words.iter().map(|word| hash_of(word)).collect();
            map.make_room_for(length).unwrap();
            let mut seen = Vec::new();
            let see = |at, row, is_new| seen.push((at, row, is_new));
            map.find_each(&hashes, &words, |_| {}, see).unwrap();
            let expected = words.iter().enumerate().map(|(at, word)| {
                let known = one_by_one.len();
                let row = add(&mut one_by_one, hash_of(word), word);
                (at, row, row == known)
            });
            let expected: Vec<_> = expected.collect();
            assert_eq!(seen, expected);
        }
        assert!(map.heap_bytes() > NEAR_BYTES);
        assert_eq!(map.keys().rows, one_by_one.keys().rows);
    }

    #[test]
    fn looking_for_many_stops_where_a_comparison_fails() {
        let mut map = AppendOnlyMap::new(Words::default());
        add(&mut map, plain(1), "a");
        map.keys_mut().poison = Some("b".into());
        let words = ["c", "a", "b", "d"].map(str::to_owned).to_vec();
        let hashes = [plain(2), plain(1), plain(1), plain(3)];
        map.make_room_for(4).unwrap();
        let mut seen = Vec::new();
        let see = |at, row, is_new| seen.push((at, row, is_new));
        assert!(map.find_each(&hashes, &words, |_| {}, see).is_err());
        assert_eq!(seen, [(0, 1, true), (1, 0, false)]);
        assert_eq!(map.keys().rows, ["a", "c"]);
    }

    #[test]
    fn keys_of_one_hash_stay_apart() {
        let mut map = AppendOnlyMap::new(Words::default());
        for i in 0..300 {
            assert_eq!(add(&mut map, plain(42), &i.to_string()), i);
        }
        for i in 0..300 {
            assert_eq!(row_of(&map, plain(42), &i.to_string()), Some(i));
        }
    }

    #[test]
    fn a_comparison_that_fails_is_an_error_and_leaves_the_map_whole() {
        let mut map = AppendOnlyMap::new(Words::default());
        add(&mut map, plain(1), "a");
        map.keys_mut().poison = Some("b".into());
        assert!(map.find(plain(1), "b").is_err());
        assert_eq!(map.len(), 1);
        assert_eq!(row_of(&map, plain(1), "a"), Some(0));
        // Another hash is never compared, so it cannot fail.
        assert_eq!(row_of(&map, plain(1 << 40), "b"), None);
    }

    #[test]
    fn keys_of_unique_hashes_are_not_looked_at() {
        let mut map = AppendOnlyMap::new(Words::default());
        for i in 0..1000_u64 {
            let row = add(&mut map, unique(i << 33), "never compared");
            assert_eq!(row as u64, i);
        }
        map.keys_mut().poison = Some("never compared".into());
        for i in 0..1000_u64 {
            let found = row_of(&map, unique(i << 33), "never compared");
            assert_eq!(found, Some(usize::try_from(i).unwrap()));
        }
        // As much of the hash as a slot has is the same, the rest of it is not.
        let near = unique((1 << 33) | (1 << 20));
        assert_eq!(row_of(&map, near, "never compared"), None);
    }

    #[test]
    fn a_unique_hash_is_compared_with_one_that_is_not() {
        let mut map = AppendOnlyMap::new(Words::default());
        add(&mut map, unique(9), "nine");
        assert_eq!(row_of(&map, plain(9), "nine"), Some(0));
        assert_eq!(row_of(&map, plain(9), "other"), None);
        add(&mut map, plain(8), "eight");
        assert_eq!(row_of(&map, unique(8), "eight"), Some(1));
        assert_eq!(row_of(&map, unique(8), "other"), None);
    }

    #[test]
    fn keys_can_be_taken_back() {
        let mut map = AppendOnlyMap::new(Words::default());
        // Chains of several keys, which go on behind the end.
        let hash = |i: usize| plain(u64::MAX << 40 | (i as u64 % 7) << 36);
        for i in 0..300 {
            add(&mut map, hash(i), &i.to_string());
        }
        map.truncate(100);
        map.keys_mut().rows.truncate(100);
        assert_eq!(map.len(), 100);
        for i in 0..300 {
            let found = row_of(&map, hash(i), &i.to_string());
            assert_eq!(found, (i < 100).then_some(i));
        }
        assert_eq!(add(&mut map, hash(7), "another"), 100);
    }

    #[test]
    fn an_index_grows_where_it_is_whatever_its_chains_are() {
        // Chains at the start, over the end, of one place, of a few, and none to speak of.
        let at_start = |i: u64| i << 20;
        let over_end = |i: u64| u64::MAX - (i << 20);
        let at_one = |i: u64| (0x5a5a << 48) | (i << 8);
        let at_few = |i: u64| (i % 5) << 61 | i << 20;
        let from_end = |i: u64| (u64::MAX - i % 3) << 40 | i;
        let spread = |i: u64| mix(i);
        let hashes: [fn(u64) -> u64; 6] = [at_start, over_end, at_one, at_few, from_end, spread];
        for bits in hashes {
            let mut map = AppendOnlyMap::new(Words::default());
            for i in 0..3000_u64 {
                let row = add(&mut map, plain(bits(i)), &i.to_string());
                assert_eq!(row as u64, i);
                if (i + 1).is_power_of_two() || i % 500 == 0 {
                    // Some are taken back, and come again.
                    let kept = usize::try_from(i).unwrap();
                    map.truncate(kept);
                    map.keys_mut().rows.truncate(kept);
                    assert_eq!(row_of(&map, plain(bits(i)), &i.to_string()), None);
                    add(&mut map, plain(bits(i)), &i.to_string());
                    for i in 0..=i {
                        let found = row_of(&map, plain(bits(i)), &i.to_string());
                        assert_eq!(found.map(|row| row as u64), Some(i));
                    }
                }
            }
            map.reserve(100_000);
            for i in 0..3000_u64 {
                let found = row_of(&map, plain(bits(i)), &i.to_string());
                assert_eq!(found.map(|row| row as u64), Some(i));
            }
            assert_eq!(row_of(&map, plain(bits(3000)), "3000"), None);
        }
    }

    #[test]
    fn reset_keeps_the_memory_and_no_key() {
        let mut map = AppendOnlyMap::new(Words::default());
        for i in 0..1000 {
            add(&mut map, hash_of(&i.to_string()), &i.to_string());
        }
        let before = map.heap_bytes();
        map.reset();
        assert_eq!(map.heap_bytes(), before);
        assert_eq!(row_of(&map, hash_of("7"), "7"), None);
        assert_eq!(add(&mut map, plain(3), "again"), 0);
    }

    #[test]
    fn clear_gives_the_memory_back() {
        let mut map = AppendOnlyMap::new(Words::default());
        for i in 0..1000 {
            add(&mut map, hash_of(&i.to_string()), &i.to_string());
        }
        assert!(map.heap_bytes() > 1000 * 16);
        map.clear();
        assert_eq!(map.heap_bytes(), 0);
        assert!(map.is_empty());
        assert_eq!(add(&mut map, plain(3), "again"), 0);
    }
}
