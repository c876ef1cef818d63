//! A table indexed by small numbers that the control plane hands out.

/// Slots that are empty or hold a value; the control plane reuses the lowest free number.
#[derive(Debug)]
pub struct Table<T>(Vec<Option<T>>);

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Table<T> {
    /// The value under a number.
    #[inline]
    pub fn get(&self, number: u32) -> Option<&T> {
        self.0.get(number as usize)?.as_ref()
    }

    /// The value under a number, to change it.
    #[inline]
    pub fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.0.get_mut(number as usize)?.as_mut()
    }

    /// Puts a value under a number, and hands back what was there.
    pub fn insert(&mut self, number: u32, value: T) -> Option<T> {
        let number = number as usize;
        if self.0.len() <= number {
            self.0.resize_with(number + 1, || None);
        }
        self.0[number].replace(value)
    }

    /// Empties a number's slot, and hands back what was there.
    pub fn remove(&mut self, number: u32) -> Option<T> {
        self.0.get_mut(number as usize)?.take()
    }

    /// Empties all slots, and hands back what was there, by number.
    pub fn drain(&mut self) -> impl Iterator<Item = T> {
        self.0.drain(..).flatten()
    }

    /// All values with their numbers, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..).zip(&self.0).filter_map(|(number, slot)| Some((number, slot.as_ref()?)))
    }

    /// All values with their numbers, ascending, to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        (0..).zip(&mut self.0).filter_map(|(number, slot)| Some((number, slot.as_mut()?)))
    }
}
