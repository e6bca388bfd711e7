//! A persistent weight-balanced tree: clones share nodes, and a change copies the shared nodes on its path.
//!
//! The weight of a subtree is its number of items plus one. Neither side of a node weighs more than [`DELTA`] times the
//! other, so that the depth is at most 2.41 times the binary logarithm of the size, for any items and any order of
//! changes: an adversary who chooses ids cannot make it deep. The parameters (3, 2) are those proved correct for
//! insertion and removal by Hirai and Yamamoto, "Balancing weight-balanced trees" (2011).

use std::cmp::Ordering;
use std::sync::Arc;

/// Maximum ratio of the weights of the two sides of a node.
const DELTA: usize = 3;
/// Minimum ratio of the weights of the inner and the outer grandchild at which a double rotation is needed.
const GAMMA: usize = 2;

/// The item type of a tree and the summary that each node keeps of its subtree.
pub(super) trait Content {
    type Item: Clone;
    type Summary: Clone;

    /// Returns the summary of a single item.
    fn summary(item: &Self::Item) -> Self::Summary;

    /// Combines the summaries of two adjacent runs of items. The operation is associative.
    fn join(one: &Self::Summary, other: &Self::Summary) -> Self::Summary;
}

/// A sequence of items in ascending order. Searches take a function that compares an item with the target.
pub(super) struct Tree<C: Content>(Link<C>);

type Link<C> = Option<Arc<Node<C>>>;

struct Node<C: Content> {
    item: C::Item,
    /// Summary of all items of the subtree, this node's included.
    summary: C::Summary,
    /// Number of items in the subtree, this node's included.
    size: usize,
    left: Link<C>,
    right: Link<C>,
}

impl<C: Content> Clone for Node<C> {
    fn clone(&self) -> Self {
        Self {
            item: self.item.clone(),
            summary: self.summary.clone(),
            size: self.size,
            left: self.left.clone(),
            right: self.right.clone(),
        }
    }
}

/// Takes a snapshot in constant time.
impl<C: Content> Clone for Tree<C> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

fn size<C: Content>(link: &Link<C>) -> usize {
    link.as_ref().map_or(0, |node| node.size)
}

fn weight<C: Content>(link: &Link<C>) -> usize {
    size(link) + 1
}

impl<C: Content> Tree<C> {
    /// Builds a perfectly balanced tree from ascending items in linear time.
    pub(super) fn from_sorted(items: Vec<C::Item>) -> Self {
        let count = items.len();
        Self(build(&mut items.into_iter(), count))
    }

    pub(super) fn len(&self) -> usize {
        size(&self.0)
    }

    /// Returns the item for which `place` returns `Equal`; `None` if there is none.
    pub(super) fn get(&self, place: impl Fn(&C::Item) -> Ordering) -> Option<&C::Item> {
        let mut link = &self.0;
        while let Some(node) = link {
            link = match place(&node.item) {
                Ordering::Equal => return Some(&node.item),
                Ordering::Less => &node.right,
                Ordering::Greater => &node.left,
            };
        }
        None
    }

    /// Returns the greatest item; `None` if the tree is empty.
    pub(super) fn last(&self) -> Option<&C::Item> {
        self.last_where(|_| true)
    }

    /// Returns the smallest item; `None` if the tree is empty.
    pub(super) fn first(&self) -> Option<&C::Item> {
        let mut node = self.0.as_ref()?;
        while let Some(left) = &node.left {
            node = left;
        }
        Some(&node.item)
    }

    /// Returns the last item whose summary satisfies `holds`. `holds` must be true of a joined summary exactly if it is
    /// true of one of its items.
    pub(super) fn last_where(&self, holds: impl Fn(&C::Summary) -> bool) -> Option<&C::Item> {
        let mut link = &self.0;
        while let Some(node) = link {
            let has = |link: &Link<C>| link.as_ref().is_some_and(|node| holds(&node.summary));
            link = if has(&node.right) {
                &node.right
            } else if holds(&C::summary(&node.item)) {
                return Some(&node.item);
            } else {
                &node.left
            };
        }
        None
    }

    /// Returns, in ascending order, the items for which `place` returns `Equal` and whose summary satisfies `holds`;
    /// `holds` must satisfy the condition of [`Tree::last_where`]. Costs the depth of the tree for each item found,
    /// plus once.
    pub(super) fn select(
        &self,
        place: impl Fn(&C::Item) -> Ordering,
        holds: impl Fn(&C::Summary) -> bool,
    ) -> Vec<C::Item> {
        let mut found = Vec::new();
        select(&self.0, &place, &holds, &mut found);
        found
    }

    /// Inserts an item, replacing the one for which `place` returns `Equal`.
    pub(super) fn insert(&mut self, item: C::Item, place: impl Fn(&C::Item) -> Ordering) {
        insert(&mut self.0, item, &place);
    }

    /// Removes and returns the item for which `place` returns `Equal`; `None` if there is none.
    pub(super) fn remove(&mut self, place: impl Fn(&C::Item) -> Ordering) -> Option<C::Item> {
        // Searched first, so that removing a missing item copies no path.
        self.get(&place)?;
        remove(&mut self.0, &place)
    }

    /// Iterates over all items in ascending order.
    pub(super) fn iter(&self) -> Walk<'_, C> {
        let mut walk = Walk { stack: Vec::new(), backwards: false };
        walk.enter(&self.0);
        walk
    }

    /// Iterates over all items in descending order.
    pub(super) fn iter_back(&self) -> Walk<'_, C> {
        self.iter_back_from(|_| Ordering::Less)
    }

    /// Iterates in descending order over the items for which `place` returns `Less`. The first item costs the depth of
    /// the tree.
    pub(super) fn iter_back_from(&self, place: impl Fn(&C::Item) -> Ordering) -> Walk<'_, C> {
        let mut walk = Walk { stack: Vec::new(), backwards: true };
        let mut link = &self.0;
        while let Some(node) = link {
            link = if place(&node.item) == Ordering::Less {
                walk.stack.push(node);
                &node.right
            } else {
                &node.left
            };
        }
        walk
    }
}

#[cfg(test)]
impl<C: Content> Tree<C> {
    /// Returns the addresses of all nodes; a node that trees share has one address.
    pub(super) fn nodes(&self) -> std::collections::BTreeSet<*const ()> {
        let (mut open, mut nodes) = (vec![&self.0], std::collections::BTreeSet::new());
        while let Some(link) = open.pop() {
            if let Some(node) = link {
                nodes.insert(Arc::as_ptr(node).cast());
                open.extend([&node.left, &node.right]);
            }
        }
        nodes
    }
}

/// Iterator over the items of a tree.
pub(super) struct Walk<'a, C: Content> {
    /// Nodes whose items are still to be returned, the next one last.
    stack: Vec<&'a Node<C>>,
    backwards: bool,
}

impl<'a, C: Content> Walk<'a, C> {
    fn enter(&mut self, mut link: &'a Link<C>) {
        while let Some(node) = link {
            self.stack.push(node);
            link = if self.backwards { &node.right } else { &node.left };
        }
    }
}

impl<'a, C: Content> Iterator for Walk<'a, C> {
    type Item = &'a C::Item;

    fn next(&mut self) -> Option<Self::Item> {
        let node = self.stack.pop()?;
        self.enter(if self.backwards { &node.left } else { &node.right });
        Some(&node.item)
    }
}

fn build<C: Content>(items: &mut impl Iterator<Item = C::Item>, count: usize) -> Link<C> {
    if count == 0 {
        return None;
    }
    let left = build(items, count / 2);
    let item = items.next()?;
    let right = build(items, count - count / 2 - 1);
    let summary = C::summary(&item);
    let mut node = Node { item, summary, size: 1, left, right };
    node.sum_up();
    Some(Arc::new(node))
}

fn select<C: Content>(
    link: &Link<C>,
    place: &impl Fn(&C::Item) -> Ordering,
    holds: &impl Fn(&C::Summary) -> bool,
    found: &mut Vec<C::Item>,
) {
    let Some(node) = link.as_ref().filter(|node| holds(&node.summary)) else { return };
    let at = place(&node.item);
    if at != Ordering::Less {
        select(&node.left, place, holds, found);
    }
    if at == Ordering::Equal && holds(&C::summary(&node.item)) {
        found.push(node.item.clone());
    }
    if at != Ordering::Greater {
        select(&node.right, place, holds, found);
    }
}

fn insert<C: Content>(link: &mut Link<C>, item: C::Item, place: &impl Fn(&C::Item) -> Ordering) {
    let Some(shared) = link else {
        let summary = C::summary(&item);
        *link = Some(Arc::new(Node { item, summary, size: 1, left: None, right: None }));
        return;
    };
    let node = Arc::make_mut(shared);
    match place(&node.item) {
        Ordering::Less => insert(&mut node.right, item, place),
        Ordering::Greater => insert(&mut node.left, item, place),
        Ordering::Equal => node.item = item,
    }
    node.restore();
}

fn remove<C: Content>(link: &mut Link<C>, place: &impl Fn(&C::Item) -> Ordering) -> Option<C::Item> {
    let node = Arc::make_mut(link.as_mut()?);
    let removed = match place(&node.item) {
        Ordering::Less => remove(&mut node.right, place),
        Ordering::Greater => remove(&mut node.left, place),
        Ordering::Equal if node.left.is_none() || node.right.is_none() => {
            let below = node.left.take().or(node.right.take());
            return std::mem::replace(link, below).map(|node| node.item.clone());
        }
        Ordering::Equal => {
            // The adjacent item of the heavier side takes its place.
            let heavier_left = size(&node.left) > size(&node.right);
            let side = if heavier_left { &mut node.left } else { &mut node.right };
            let neighbour = remove_end(side, !heavier_left);
            neighbour.map(|neighbour| std::mem::replace(&mut node.item, neighbour))
        }
    };
    node.restore();
    removed
}

/// Removes and returns the first item (`first`) or the last item of a subtree.
fn remove_end<C: Content>(link: &mut Link<C>, first: bool) -> Option<C::Item> {
    let node = Arc::make_mut(link.as_mut()?);
    let onward = if first { &mut node.left } else { &mut node.right };
    if onward.is_some() {
        let removed = remove_end(onward, first);
        node.restore();
        return removed;
    }
    let below = if first { node.right.take() } else { node.left.take() };
    std::mem::replace(link, below).map(|node| node.item.clone())
}

impl<C: Content> Node<C> {
    /// Recomputes size and summary of the node from its item and children.
    fn sum_up(&mut self) {
        self.size = size(&self.left) + 1 + size(&self.right);
        let own = C::summary(&self.item);
        let with_left = self.left.as_ref().map_or_else(|| own.clone(), |left| C::join(&left.summary, &own));
        self.summary = match &self.right {
            Some(right) => C::join(&with_left, &right.summary),
            None => with_left,
        };
    }

    /// Restores balance, size and summary after one insertion or removal below this node.
    fn restore(&mut self) {
        if weight(&self.right) > DELTA * weight(&self.left) {
            if let Some(right) = &mut self.right
                && weight(&right.left) >= GAMMA * weight(&right.right)
            {
                Arc::make_mut(right).rotate_right();
            }
            self.rotate_left();
        } else if weight(&self.left) > DELTA * weight(&self.right) {
            if let Some(left) = &mut self.left
                && weight(&left.right) >= GAMMA * weight(&left.left)
            {
                Arc::make_mut(left).rotate_left();
            }
            self.rotate_right();
        } else {
            self.sum_up();
        }
    }

    /// Rotates left: the right child takes this node's place, and this node becomes its left child.
    fn rotate_left(&mut self) {
        let Some(mut other) = self.right.take() else { return };
        let below = Arc::make_mut(&mut other);
        self.right = below.left.take();
        std::mem::swap(self, below);
        below.sum_up();
        self.left = Some(other);
        self.sum_up();
    }

    /// Rotates right: the left child takes this node's place, and this node becomes its right child.
    fn rotate_right(&mut self) {
        let Some(mut other) = self.left.take() else { return };
        let below = Arc::make_mut(&mut other);
        self.left = below.right.take();
        std::mem::swap(self, below);
        below.sum_up();
        self.right = Some(other);
        self.sum_up();
    }
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
