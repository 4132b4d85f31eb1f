//! Sets of members, one for each cell, while rows come and when they are complete; beside each member may
//! stand what else is known of it, as the days of a month.
//!
//! A set is kept as it is written in the end: its members in order, each as the difference from the one
//! before, in one to three bytes. Facts are stored by month and person, so that the members of a cell
//! nearly always come in order and are put behind the others. One that does not waits in a list, which is
//! sorted and worked in when it has grown with the sets, so that rows in any order cost a sort and no more.
//! The last bytes of a set stand beside its numbers, in one line of the processor's cache: a row of a
//! known cell looks nowhere else, and a set of few members has no room of its own.
//!
//! What may not live here: what a cell is (`keys.rs`, `index.rs`).

use std::sync::Arc;

use arrow::array::{BinaryArray, Date32Array};
use arrow::buffer::{Buffer, OffsetBuffer};
use datafusion_common::{Result, exec_err, resources_err};

use super::keys::{MemberCodes, NOBODY};
use super::{WIDTH, at, mapped};
use crate::care_day_set::{DayWriter, code_of, month_number, put_days, take_days};
use crate::rollup::{Lists, MemberNumbers, NumberSets};
use crate::varint::{self, Written};

/// Members that came late are worked in when there are this many, and a quarter of the others.
const LATE: usize = 1 << 16;

/// What stands beside a member. Of a member that comes again it is united: in any order, and the same
/// twice is the same once.
pub(super) trait Beside: Copy + Default + std::fmt::Debug {
    fn unite(&mut self, other: Self);

    /// It, as it stands in a set, and then the gap before the next member; `None` when they are too large
    /// to be written at once.
    fn written(self, gap: u32) -> Option<Written>;

    /// Writes the same, of any size.
    fn write(self, gap: u32, out: &mut Vec<u8>);

    /// Takes it off the front again.
    fn read(bytes: &mut &[u8]) -> Option<Self>;
}

/// Nothing: a set of members and no more.
impl Beside for () {
    fn unite(&mut self, (): Self) {}

    #[inline]
    fn written(self, gap: u32) -> Option<Written> {
        Written::of(gap)
    }

    fn write(self, gap: u32, out: &mut Vec<u8>) {
        varint::put_small(out, gap);
    }

    fn read(_bytes: &mut &[u8]) -> Option<Self> {
        Some(())
    }
}

/// Days, a bit for each.
impl Beside for u32 {
    fn unite(&mut self, other: Self) {
        *self |= other;
    }

    #[inline]
    fn written(self, gap: u32) -> Option<Written> {
        Some(Written::of(code_of(self))?.then(Written::of(gap)?))
    }

    fn write(self, gap: u32, out: &mut Vec<u8>) {
        put_days(out, self);
        varint::put_small(out, gap);
    }

    #[inline]
    fn read(bytes: &mut &[u8]) -> Option<Self> {
        take_days(bytes)
    }
}

/// The set of each cell.
#[derive(Debug, Default)]
pub(super) struct CellSets<B = ()> {
    /// By cell.
    runs: Vec<Run<B>>,
    /// Members that came behind greater ones: cell in the upper half, member in the lower.
    late: Vec<(u64, B)>,
    /// Members of all runs.
    entries: usize,
    /// Bytes that the members of all runs have room in.
    bytes: usize,
}

/// Bytes of a set that stand beside its numbers.
const TAIL: usize = 24;
/// Bytes that are written at once.
const AT_ONCE: usize = 8;

/// Members in order: of each how many numbers lie between it and the one before, and what is beside it.
#[derive(Debug, Clone, Default)]
#[repr(align(64))]
struct Run<B = ()> {
    /// What is written, but what stands in the tail.
    bytes: Vec<u8>,
    /// The end of what is written; what is beside the last member is not.
    tail: [u8; TAIL],
    /// How much of the tail there is. There is room for another [`AT_ONCE`] bytes.
    in_tail: u8,
    count: u32,
    /// One more than the last member.
    next: u32,
    /// What is beside the last member, which may come again.
    last: B,
}

impl<B: Beside> Run<B> {
    /// Adds a member that is greater than all others. `room` is changed by as much as the bytes' room.
    #[inline]
    fn push(&mut self, member: u32, beside: B, room: &mut usize) {
        let gap = member.saturating_sub(self.next);
        let written = match self.count {
            0 => Written::of(gap),
            _ => self.last.written(gap),
        };
        match written {
            Some(written) => {
                self.put(written);
                self.in_tail += written.length();
                self.keep_room(room);
            }
            None => self.put_large(gap, room),
        }
        self.last = beside;
        self.next = member.saturating_add(1);
        self.count += 1;
    }

    /// Adds a member, with nothing beside it, that is the last or greater; whether it is greater. Rows of a
    /// person come in no order that could be foreseen, so both take the same way.
    #[inline]
    fn count_in(&mut self, member: u32, room: &mut usize) -> bool {
        let is_new = member >= self.next;
        let gap = member.saturating_sub(self.next);
        match Written::of(gap) {
            Some(written) => {
                self.put(written);
                self.in_tail += written.length() * u8::from(is_new);
                self.keep_room(room);
            }
            None => self.put_large(gap, room),
        }
        self.next = member.saturating_add(1);
        self.count += u32::from(is_new);
        is_new
    }

    /// Puts numbers behind what is written, which do not count yet.
    #[inline]
    fn put(&mut self, written: Written) {
        let end = usize::from(self.in_tail);
        if let Some(room) = self.tail.get_mut(end..end + AT_ONCE) {
            room.copy_from_slice(&written.bytes());
        }
    }

    /// Leaves room in the tail.
    #[inline]
    fn keep_room(&mut self, room: &mut usize) {
        if usize::from(self.in_tail) > TAIL - AT_ONCE {
            self.empty_tail(room);
        }
    }

    #[cold]
    fn put_large(&mut self, gap: u32, room: &mut usize) {
        self.empty_tail(room);
        let before = self.bytes.capacity();
        match self.count {
            0 => varint::put_small(&mut self.bytes, gap),
            _ => self.last.write(gap, &mut self.bytes),
        }
        *room += self.bytes.capacity() - before;
    }

    #[inline(never)]
    fn empty_tail(&mut self, room: &mut usize) {
        let before = self.bytes.capacity();
        let (tail, _) = self.tail.split_at(usize::from(self.in_tail).min(TAIL));
        self.bytes.extend_from_slice(tail);
        self.in_tail = 0;
        *room += self.bytes.capacity() - before;
    }

    /// What is written, in two parts.
    fn written(&self) -> [&[u8]; 2] {
        let (tail, _) = self.tail.split_at(usize::from(self.in_tail).min(TAIL));
        [&self.bytes, tail]
    }

    fn written_bytes(&self) -> usize {
        self.bytes.len() + usize::from(self.in_tail)
    }

    fn members(&self) -> RunMembers<'_, B> {
        let [rest, tail] = self.written();
        RunMembers {
            rest,
            tail,
            left: self.count,
            next: 0,
            last: self.last,
        }
    }

    /// With other members, which are in order.
    fn united(&self, others: &[(u32, B)]) -> Self {
        let mut united = Run::default();
        let of_each = 2 + usize::from(size_of::<B>() > 0);
        let needed = self.written_bytes() + others.len() * of_each;
        if needed > TAIL {
            united.bytes.reserve_exact(needed);
        }
        let mut room = 0;
        let mut others = others.iter().copied().peekable();
        for (member, mut beside) in self.members() {
            while let Some((before, beside)) = others.next_if(|(other, _)| *other < member) {
                united.push(before, beside, &mut room);
            }
            if let Some((_, more)) = others.next_if(|(other, _)| *other == member) {
                beside.unite(more);
            }
            united.push(member, beside, &mut room);
        }
        others.for_each(|(member, beside)| united.push(member, beside, &mut room));
        united
    }
}

/// The members of a run.
#[derive(Debug, Clone)]
struct RunMembers<'a, B> {
    rest: &'a [u8],
    /// What comes behind the rest. No number stands in both.
    tail: &'a [u8],
    left: u32,
    next: u32,
    last: B,
}

impl<B> RunMembers<'_, B> {
    #[inline]
    fn turn(&mut self) {
        if self.rest.is_empty() {
            self.rest = std::mem::take(&mut self.tail);
        }
    }
}

impl<B: Beside> Iterator for RunMembers<'_, B> {
    type Item = (u32, B);

    #[inline]
    fn next(&mut self) -> Option<(u32, B)> {
        self.left = self.left.checked_sub(1)?;
        self.turn();
        let member = self
            .next
            .saturating_add(varint::take_small(&mut self.rest)?);
        let beside = match self.left {
            0 => self.last,
            _ if size_of::<B>() == 0 => B::default(),
            _ => {
                self.turn();
                B::read(&mut self.rest)?
            }
        };
        self.next = member.saturating_add(1);
        Some((member, beside))
    }
}

/// Which finer cells are parts of each cell.
struct PartsOf {
    /// By cell, where its parts end.
    ends: Vec<u32>,
    parts: Vec<u32>,
}

impl PartsOf {
    /// `cell_of` gives the cell of a finer one, or [`NOBODY`] where it does not count.
    fn new(cell_of: impl Iterator<Item = u32> + Clone) -> Self {
        let counting = || {
            (0u32..)
                .zip(cell_of.clone())
                .filter(|(_, cell)| *cell != NOBODY)
        };
        let cells = counting().map(|(_, cell)| cell as usize + 1).max();
        // Counts become where the parts of each cell begin, and putting them there makes that their end.
        let mut ends = vec![0u32; cells.unwrap_or(0) + 1];
        for (_, cell) in counting() {
            if let Some(count) = ends.get_mut(cell as usize + 1) {
                *count += 1;
            }
        }
        let mut sum = 0;
        for end in &mut ends {
            sum += *end;
            *end = sum;
        }
        let mut parts = vec![0u32; sum as usize];
        for (finer, cell) in counting() {
            if let Some(next) = ends.get_mut(cell as usize)
                && let Some(place) = parts.get_mut(*next as usize)
            {
                *place = finer;
                *next += 1;
            }
        }
        Self { ends, parts }
    }

    fn get(&self, cell: u32) -> &[u32] {
        let start = match cell.checked_sub(1) {
            None => 0,
            Some(before) => at(&self.ends, before),
        };
        let end = at(&self.ends, cell);
        let parts = self.parts.get(start as usize..end as usize);
        parts.unwrap_or_default()
    }
}

impl<B: Beside> CellSets<B> {
    /// Adds the members of rows, each to its cell: those of all rows, or of those selected. `beside` tells
    /// what stands beside that of a row; a row of which it tells nothing adds no member.
    pub(super) fn update(
        &mut self,
        members: &[u32],
        cells: &[u32],
        selected: Option<&[u32]>,
        beside: impl Fn(usize) -> Option<B>,
    ) {
        match selected {
            None => {
                self.grow(cells.iter().copied().max());
                for (row, (cell, member)) in cells.iter().zip(members).enumerate() {
                    if *member != NOBODY
                        && let Some(beside) = beside(row)
                    {
                        self.put(*cell, *member, beside);
                    }
                }
            }
            Some(selected) => {
                self.grow(selected.iter().map(|row| at(cells, *row)).max());
                for row in selected {
                    let member = members.get(*row as usize).copied().unwrap_or(NOBODY);
                    if member != NOBODY
                        && let Some(beside) = beside(*row as usize)
                    {
                        self.put(at(cells, *row), member, beside);
                    }
                }
            }
        }
        if self.late.len() > LATE.max(self.entries / 4) {
            self.settle();
        }
    }

    /// Makes room for this cell and those before.
    fn grow(&mut self, highest: Option<u32>) {
        let needed = highest.map_or(0, |cell| cell as usize + 1);
        if needed > self.runs.len() {
            self.runs
                .resize_with(needed.next_power_of_two(), Run::default);
        }
    }

    /// Adds a member to a cell that there is room for.
    #[inline]
    fn put(&mut self, cell: u32, member: u32, beside: B) {
        let Some(run) = self.runs.get_mut(cell as usize) else {
            return;
        };
        if size_of::<B>() == 0 && run.next <= member.saturating_add(1) {
            self.entries += usize::from(run.count_in(member, &mut self.bytes));
        } else if member >= run.next {
            run.push(member, beside, &mut self.bytes);
            self.entries += 1;
        // Rows of a person lie together, so that most repetitions end here.
        } else if member + 1 == run.next {
            run.last.unite(beside);
        } else {
            self.put_late(cell, member, beside);
        }
    }

    #[cold]
    fn put_late(&mut self, cell: u32, member: u32, beside: B) {
        let pair = (u64::from(cell) << 32) | u64::from(member);
        match self.late.last_mut() {
            Some((last, own)) if *last == pair => own.unite(beside),
            _ => self.late.push((pair, beside)),
        }
    }

    /// Works in the members that came late.
    pub(super) fn settle(&mut self) {
        let mut late = std::mem::take(&mut self.late);
        late.sort_unstable_by_key(|(pair, _)| *pair);
        once_each(&mut late);
        let mut members: Vec<(u32, B)> = Vec::new();
        for own in late.chunk_by(|(a, _), (b, _)| a >> 32 == b >> 32) {
            let cell = own.first().map_or(0, |(pair, _)| (pair >> 32) as u32);
            members.clear();
            members.extend(own.iter().map(|(pair, beside)| (*pair as u32, *beside)));
            self.unite(cell, &members);
        }
    }

    /// Adds members, in order and each once, to a cell.
    fn unite(&mut self, cell: u32, members: &[(u32, B)]) {
        let run = self.runs.get(cell as usize);
        let next = run.map_or(0, |run| run.next);
        match (run, members.first()) {
            (Some(run), Some((first, _))) if *first < next => {
                let united = run.united(members);
                self.replace(cell, united);
            }
            _ => {
                self.grow(Some(cell));
                for (member, beside) in members {
                    self.put(cell, *member, *beside);
                }
            }
        }
    }

    fn replace(&mut self, cell: u32, run: Run<B>) {
        if let Some(place) = self.runs.get_mut(cell as usize) {
            self.bytes = self.bytes + run.bytes.capacity() - place.bytes.capacity();
            self.entries = self.entries + run.count as usize - place.count as usize;
            *place = run;
        }
    }

    /// Takes in the sets of another part; a map has no places where its numbers are the same here.
    pub(super) fn merge(&mut self, other: CellSets<B>, cells: &[u32], codes: &[u32]) {
        let mut members: Vec<(u32, B)> = Vec::new();
        let late = other.late;
        for (cell, run) in (0u32..).zip(other.runs) {
            if run.count == 0 {
                continue;
            }
            let cell = mapped(cells, cell);
            self.grow(Some(cell));
            let own = self.runs.get(cell as usize);
            if codes.is_empty() && own.is_some_and(|own| own.count == 0) {
                self.replace(cell, run);
                continue;
            }
            members.clear();
            let own = run.members();
            members.extend(own.map(|(member, beside)| (mapped(codes, member), beside)));
            if !codes.is_empty() {
                members.sort_unstable_by_key(|(member, _)| *member);
            }
            self.unite(cell, &members);
        }
        for (pair, beside) in late {
            let (cell, member) = ((pair >> 32) as u32, pair as u32);
            let cell = mapped(cells, cell);
            self.grow(Some(cell));
            self.put(cell, mapped(codes, member), beside);
        }
    }

    /// Takes in the sets of finer cells that have settled; `cell_of` gives the cell of a finer one, or
    /// [`NOBODY`] where it does not count.
    pub(super) fn absorb(
        &mut self,
        finer: &CellSets<B>,
        cell_of: impl Iterator<Item = u32> + Clone,
    ) {
        let parts = PartsOf::new(cell_of);
        let mut union = Union::default();
        for cell in 0..parts.ends.len() as u32 {
            self.unite(cell, union.of(finer, parts.get(cell)));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries == 0 && self.late.is_empty()
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let runs = self.runs.capacity() * size_of::<Run<B>>();
        runs + self.bytes + self.late.capacity() * size_of::<(u64, B)>()
    }
}

/// Makes one of entries that follow each other and have the same key.
fn once_each<K: PartialEq, B: Beside>(entries: &mut Vec<(K, B)>) {
    entries.dedup_by(|next, kept| {
        let is_same = next.0 == kept.0;
        if is_same {
            kept.1.unite(next.1);
        }
        is_same
    });
}

/// A set of several cells together, one after the other in the same room.
#[derive(Debug, Default)]
struct Union<B = ()> {
    members: Vec<(u32, B)>,
    /// A bit for each number from the least member on; all are zero between two sets.
    bits: Vec<u64>,
}

impl<B: Beside> Union<B> {
    /// The members of some cells that have settled, in order and each once.
    fn of(&mut self, sets: &CellSets<B>, cells: &[u32]) -> &mut Vec<(u32, B)> {
        self.members.clear();
        let runs = cells.iter().filter_map(|cell| {
            let run = sets.runs.get(*cell as usize)?;
            (run.count > 0).then_some(run)
        });
        let all: usize = runs.clone().map(|run| run.count as usize).sum();
        self.members.reserve(all);
        let least = runs
            .clone()
            .filter_map(|run| run.members().next())
            .min_by_key(|(member, _)| *member);
        let words = |from: u32, to: u32| (to.saturating_sub(from) as usize >> 6) + 1;
        let next = runs.clone().map(|run| run.next).max().unwrap_or_default();
        match (cells, least) {
            ([_, _, ..], Some((least, _))) if size_of::<B>() == 0 && words(least, next) <= all => {
                self.bits.resize(self.bits.len().max(words(least, next)), 0);
                for (member, _) in runs.flat_map(Run::members) {
                    let place = member - least;
                    if let Some(word) = self.bits.get_mut(place as usize >> 6) {
                        *word |= 1 << (place & 63);
                    }
                }
                let words = self.bits.iter_mut().take(words(least, next));
                for (place, word) in words.enumerate() {
                    let first = least.saturating_add(place as u32 * 64);
                    let mut left = std::mem::take(word);
                    while left != 0 {
                        let member = first.saturating_add(left.trailing_zeros());
                        self.members.push((member, B::default()));
                        left &= left - 1;
                    }
                }
            }
            ([_, _, ..], _) => {
                self.members.extend(runs.flat_map(Run::members));
                // Finds what is in order already.
                self.members.sort_by_key(|(member, _)| *member);
                once_each(&mut self.members);
            }
            _ => self.members.extend(runs.flat_map(Run::members)),
        }
        &mut self.members
    }
}

/// What the codes of members stand for.
#[derive(Debug, Default)]
pub(super) enum Members {
    #[default]
    Nothing,
    /// Members in the order of their bytes, and the place there of every code.
    Named {
        members: Arc<Vec<u128>>,
        ranks: Vec<u32>,
    },
    /// A code is a number of this list.
    OfList(u64),
}

impl Members {
    pub(super) fn named(members: &MemberCodes) -> Self {
        // Members are as good as random: their first half nearly always tells their order.
        let values = (0u32..).zip(&members.values);
        let mut codes: Vec<(u64, u32)> = values
            .map(|(code, value)| ((value >> 64) as u64, code))
            .collect();
        codes.sort_unstable_by(|(a, a_code), (b, b_code)| {
            let whole = |code: &u32| at(&members.values, *code);
            a.cmp(b).then_with(|| whole(a_code).cmp(&whole(b_code)))
        });
        let codes: Vec<u32> = codes.into_iter().map(|(_, code)| code).collect();
        let mut ranks = vec![0u32; codes.len()];
        for (rank, code) in (0u32..).zip(&codes) {
            if let Some(place) = ranks.get_mut(*code as usize) {
                *place = rank;
            }
        }
        let by_rank = codes.iter().map(|code| at(&members.values, *code));
        Members::Named {
            members: Arc::new(by_rank.collect()),
            ranks,
        }
    }

    /// The set of each present cell. `finer` have settled, and `cell_of` gives the cell of each of them,
    /// or [`NOBODY`] where it does not count.
    pub(super) fn sets(
        &self,
        finer: &CellSets,
        cell_of: impl Iterator<Item = u32> + Clone,
        present: &[u32],
    ) -> MemberNumbers {
        let parts = PartsOf::new(cell_of);
        let mut union = Union::<()>::default();
        match self {
            Members::Nothing => MemberNumbers::default(),
            Members::Named {
                members: named,
                ranks,
            } => {
                let mut sets = Lists::default();
                for cell in present {
                    let members = union.of(finer, parts.get(*cell));
                    for (code, ()) in &mut *members {
                        *code = at(ranks, *code);
                    }
                    members.sort_unstable();
                    sets.push(members.iter().map(|(rank, ())| *rank));
                }
                MemberNumbers::named(sets, Arc::clone(named))
            }
            Members::OfList(list) => {
                let mut sets = NumberSets::of_list(*list);
                let mut numbers: Vec<u32> = Vec::new();
                // No more than all parts, each with what stands before its members.
                let own = present.iter().flat_map(|cell| parts.get(*cell));
                let runs = own.filter_map(|part| finer.runs.get(*part as usize));
                sets.reserve(runs.map(|run| run.written_bytes() + WIDTH).sum());
                for cell in present {
                    let own = parts.get(*cell);
                    let one = match own {
                        [one] => finer.runs.get(*one as usize),
                        _ => None,
                    };
                    match one {
                        Some(run) => {
                            sets.push_gaps(run.count, run.written(), run.next.checked_sub(1));
                        }
                        None => {
                            numbers.clear();
                            numbers.extend(union.of(finer, own).iter().map(|(number, ())| *number));
                            sets.push(&numbers);
                        }
                    }
                }
                MemberNumbers::from(sets)
            }
        }
    }

    /// The days of members, as `care_day_set` gives them, of each present cell; `months` are the first days
    /// of their months. The others as in [`Members::sets`].
    ///
    /// # Errors
    /// When all of them take more than 2 GiB, or a cell has no month.
    pub(super) fn days(
        &self,
        finer: &CellSets<u32>,
        cell_of: impl Iterator<Item = u32> + Clone,
        present: &[u32],
        months: &Date32Array,
    ) -> Result<BinaryArray> {
        let parts = PartsOf::new(cell_of);
        let mut union = Union::<u32>::default();
        let runs = finer.runs.iter().map(Run::written_bytes).sum::<usize>();
        let mut states: Vec<u8> = Vec::with_capacity(runs + present.len() * WIDTH);
        let mut ends: Vec<i32> = Vec::with_capacity(present.len() + 1);
        ends.push(0);
        let ended = |states: &[u8]| match i32::try_from(states.len()) {
            Ok(end) => Ok(end),
            // Ends of states are 32 bits.
            Err(_) => resources_err!("the days of persons of one grouping take more than 2 GiB"),
        };
        for (cell, month) in present.iter().zip(months) {
            let own = parts.get(*cell);
            let list = match self {
                Members::OfList(list) => Some(*list),
                Members::Named { .. } | Members::Nothing => None,
            };
            let runs = own.iter().filter_map(|part| finer.runs.get(*part as usize));
            let mut runs = runs.filter(|run| run.count > 0);
            let one = match (runs.next(), runs.next()) {
                (None, _) => {
                    ends.push(ended(&states)?);
                    continue;
                }
                (Some(one), None) => Some(one),
                (Some(_), Some(_)) => None,
            };
            let Some(month) = month.map(month_number) else {
                return exec_err!("days of a month are in no month");
            };
            let mut writer = DayWriter::new(&mut states, list);
            match (self, one) {
                (Members::Named { members, ranks }, _) => {
                    let days = union.of(finer, own);
                    days.iter_mut()
                        .for_each(|(code, _)| *code = at(ranks, *code));
                    days.sort_unstable_by_key(|(rank, _)| *rank);
                    writer.month(month, days.len());
                    for (rank, days) in days {
                        writer.pseudonym(at(members, *rank), *days);
                    }
                }
                (_, Some(run)) => {
                    writer.month(month, run.count as usize);
                    writer.written(run.written(), run.last);
                }
                (_, None) => {
                    let days = union.of(finer, own);
                    writer.month(month, days.len());
                    for (number, days) in days {
                        writer.number(*number, *days);
                    }
                }
            }
            ends.push(ended(&states)?);
        }
        let ends = OffsetBuffer::new(ends.into());
        Ok(BinaryArray::try_new(ends, Buffer::from_vec(states), None)?)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::testing::numbers;

    type Shown = BTreeMap<u32, Vec<u32>>;

    fn shown(mut sets: CellSets) -> Shown {
        sets.settle();
        let counted = sets
            .runs
            .iter()
            .map(|run| run.count as usize)
            .sum::<usize>();
        assert_eq!(sets.entries, counted);
        let room = sets
            .runs
            .iter()
            .map(|run| run.bytes.capacity())
            .sum::<usize>();
        assert_eq!(sets.bytes, room);
        let runs = (0u32..).zip(&sets.runs).filter(|(_, run)| run.count > 0);
        runs.map(|(cell, run)| {
            let members: Vec<u32> = run.members().map(|(member, ())| member).collect();
            assert_eq!(members.len(), run.count as usize);
            (cell, members)
        })
        .collect()
    }

    fn naive(pairs: &[(u32, u32)]) -> Shown {
        let mut sets: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        for (cell, member) in pairs.iter().filter(|(_, member)| *member != NOBODY) {
            sets.entry(*cell).or_default().insert(*member);
        }
        let sets = sets.into_iter();
        sets.map(|(cell, set)| (cell, set.into_iter().collect()))
            .collect()
    }

    /// Cells and members: in the order of facts, in the opposite, and in none.
    fn orders(rows: usize, members: u64) -> Vec<Vec<(u32, u32)>> {
        let mut draws = numbers(rows * 2, u64::MAX);
        let mut draw = |bound: u64| draws.next().unwrap_or_default() % bound;
        let member = |member: u64| match member {
            0 => NOBODY,
            member => u32::try_from(member * 97).unwrap(),
        };
        let none: Vec<(u32, u32)> = (0..rows)
            .map(|_| (draw(40) as u32, member(draw(members))))
            .collect();
        let mut sorted = none.clone();
        sorted.sort_unstable_by_key(|(cell, member)| (*member, *cell));
        let turned = sorted.iter().rev().copied().collect();
        vec![sorted, turned, none]
    }

    fn put(rows: &[(u32, u32)]) -> CellSets {
        let mut sets = CellSets::default();
        for rows in rows.chunks(1_000) {
            let (cells, members): (Vec<u32>, Vec<u32>) = rows.iter().copied().unzip();
            sets.update(&members, &cells, None, |_| Some(()));
        }
        sets
    }

    #[test]
    fn members_in_any_order_are_the_same_sets() {
        for (rows, members) in [
            (0, 1),
            (9, 3),
            (3_000, 50),
            (3_000, 40_000),
            (200_000, 40_000),
        ] {
            for rows in orders(rows, members) {
                let expected = naive(&rows);
                assert_eq!(shown(put(&rows)), expected);
                let (cells, own): (Vec<u32>, Vec<u32>) = rows.iter().copied().unzip();
                let mut some = CellSets::default();
                let selected: Vec<u32> = (0..rows.len() as u32).filter(|row| row % 3 > 0).collect();
                some.update(&own, &cells, Some(&selected), |_| Some(()));
                let selected: Vec<(u32, u32)> =
                    selected.iter().map(|row| rows[*row as usize]).collect();
                assert_eq!(shown(some), naive(&selected));
            }
        }
    }

    #[test]
    fn a_union_is_that_of_its_parts_however_its_members_lie() {
        let mut union = Union::<()>::default();
        for (first, step) in [(0, 1), (7, 3), (63, 64), (5, 1_000), (u32::MAX - 9_000, 3)] {
            // Cells that have much, little and nothing in common.
            let of_cell = |cell: u32| {
                let members = (0..3_000u32).filter(move |place| place % (cell + 2) == 0);
                members.map(move |place| (cell, first + place * step))
            };
            let rows: Vec<(u32, u32)> = (0..5).flat_map(of_cell).collect();
            let sets = put(&rows);
            let expected = naive(&rows);
            for cells in [
                vec![],
                vec![3],
                vec![9],
                vec![0, 1],
                vec![4, 9, 2],
                vec![0, 1, 2, 3, 4],
            ] {
                let own = cells.iter().filter_map(|cell| expected.get(cell));
                let own: BTreeSet<u32> = own.flatten().copied().collect();
                let own: Vec<u32> = own.into_iter().collect();
                let found = union.of(&sets, &cells).iter().map(|(member, ())| *member);
                assert!(found.eq(own), "{first} {step} {cells:?}");
            }
        }
    }

    #[test]
    fn rows_in_order_wait_for_nothing() {
        let sorted = &orders(200_000, 40_000)[0];
        let sets = put(sorted);
        assert!(sets.late.is_empty());
        assert!(sets.bytes < sets.entries * 4, "{} bytes", sets.bytes);
        let turned: Vec<(u32, u32)> = sorted.iter().rev().copied().collect();
        let sets = put(&turned);
        assert!(sets.late.len() <= LATE + 1_000, "{}", sets.late.len());
    }

    #[test]
    fn parts_merge_to_the_whole_and_finer_cells_to_theirs() {
        for rows in orders(20_000, 3_000) {
            let (first, second) = rows.split_at(7_000);
            // The same numbers on both sides, and others for cells and members.
            let mut whole = put(first);
            whole.merge(put(second), &[], &[]);
            assert_eq!(shown(whole), naive(&rows));
            let cells: Vec<u32> = (0..40).map(|cell| (cell * 7 + 3) % 40).collect();
            let codes: Vec<u32> = (0..3_000 * 97).rev().collect();
            let mut translated = first.to_vec();
            translated.extend(second.iter().map(|(cell, member)| {
                let member = codes.get(*member as usize).copied();
                (cells[*cell as usize], member.unwrap_or(NOBODY))
            }));
            let mut whole = put(first);
            whole.merge(put(second), &cells, &codes);
            assert_eq!(shown(whole), naive(&translated));

            let cell_of = (0..40).map(|cell| match cell % 5 {
                0 => NOBODY,
                part => part * 2 + cell / 30,
            });
            let cells: Vec<u32> = cell_of.clone().collect();
            let coarser = |rows: &[(u32, u32)]| -> Vec<(u32, u32)> {
                let rows = rows.iter();
                let rows = rows.map(|(cell, member)| (cells[*cell as usize], *member));
                rows.filter(|(cell, _)| *cell != NOBODY).collect()
            };
            let mut own = CellSets::default();
            for rows in [first, second] {
                let mut finer = put(rows);
                finer.settle();
                own.absorb(&finer, cell_of.clone());
            }
            let expected = naive(&coarser(&rows));
            assert_eq!(shown(own), expected);

            // And as they are written.
            let mut finer = put(&rows);
            finer.settle();
            let present: Vec<u32> = (0..12).collect();
            let written = Members::OfList(5).sets(&finer, cell_of.clone(), &present);
            let mut sets = NumberSets::of_list(5);
            for cell in &present {
                sets.push(expected.get(cell).map_or(&[], Vec::as_slice));
            }
            let states = |sets: &MemberNumbers| sets.states(0..12).unwrap();
            assert_eq!(states(&written), states(&MemberNumbers::from(sets)));
        }
    }

    #[test]
    fn what_is_not_there_has_no_members() {
        assert!(CellSets::<()>::default().is_empty());
        let parts = PartsOf::new(std::iter::empty());
        assert!(parts.get(0).is_empty() && parts.get(7).is_empty());
        let sets = Members::OfList(5).sets(&CellSets::default(), std::iter::empty(), &[0, 3]);
        assert_eq!((sets.len(), sets.entries()), (2, 0));
    }
}
