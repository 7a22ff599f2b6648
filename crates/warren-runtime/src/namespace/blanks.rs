//! The blanks that wait, and which images they wait for.
//!
//! A blank has the mounts of an image in advance; they are worth nothing to a create that asks for
//! another, and in the way: they have to be taken down first. So the pool follows the demand: the
//! images of the last creates, in the proportion in which they were asked for; among them none, for
//! what is asked for only once, such as the files of a fork. Of an image that has gone from the disk a blank may hold mounts still:
//! it is never handed out with them, because an image that comes back is another [`Image`], and
//! images are told apart by where they lie in memory.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use warren_core::spec;

use super::{
    blank::{self, Blank},
    host::{Host, Reach},
};
use crate::image::Image;

/// How many of the last creates say what the next ones will ask for.
const REMEMBERED: usize = 32;

/// How long no create may have been under way before the pool is refilled: whoever got a sandbox
/// is about to use it, and making the next blank would take a processor from them.
const QUIET: Duration = Duration::from_millis(10);

/// Blanks that wait.
#[derive(Debug, Default)]
pub(crate) struct Blanks {
    waiting: Mutex<VecDeque<Blank>>,
    wake: Condvar,
    demand: Mutex<Demand>,
    /// Creates under way, which refilling gives way to.
    busy: AtomicUsize,
    last_busy: Mutex<Option<Instant>>,
    stopped: AtomicBool,
}

impl Blanks {
    /// A blank for this reach, if one waits; with the mounts of this image, if there is such a one.
    ///
    /// `lasting` says that the same image is likely to be asked for again.
    pub(crate) fn take(&self, reach: Reach, image: &Arc<Image>, lasting: bool) -> Option<Blank> {
        self.demand().note(lasting.then_some(image));
        let mut waiting = self.lock();
        let fits = |blank: &Blank| blank.reach == reach;
        let same = |blank: &Blank| blank.prepared().is_some_and(|it| Arc::ptr_eq(it, image));
        let place = waiting
            .iter()
            .position(|blank| fits(blank) && same(blank))
            .or_else(|| waiting.iter().position(|it| fits(it) && it.prepared().is_none()))
            .or_else(|| waiting.iter().position(fits))?;
        let blank = waiting.remove(place);
        drop(waiting);
        self.wake.notify_one();
        blank
    }

    /// Makes refilling give way for as long as the value lives.
    pub(crate) fn busy(self: &Arc<Self>) -> Busy {
        self.busy.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    /// Ends refilling and gives what waits.
    pub(crate) fn stop(&self) -> Vec<Blank> {
        self.stopped.store(true, Ordering::Relaxed);
        self.wake.notify_all();
        self.lock().drain(..).collect()
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Blank>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn demand(&self) -> MutexGuard<'_, Demand> {
        self.demand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The image that the next blank is to have the mounts of.
    fn next_image(&self, host: &Host) -> Option<Arc<Image>> {
        let waiting = self.lock();
        let prepared: Vec<_> = waiting.iter().map(|it| it.prepared().cloned()).collect();
        drop(waiting);
        let next = self.demand().most_wanted(&prepared);
        // Whoever has not asked yet is most likely to ask for what is always there.
        next.unwrap_or_else(|| host.images.resolve(&spec::Image::Host).ok())
    }

    /// Keeps `wanted` blanks waiting; runs until [`Blanks::stop`], or until the host is gone.
    pub(crate) fn refill(&self, host: &Weak<Host>, wanted: usize) {
        let mut failures = 0_u32;
        while !self.stopped.load(Ordering::Relaxed) {
            if !self.wait_until_needed(wanted) {
                return;
            }
            let Some(host) = host.upgrade() else { return };
            let image = self.next_image(&host);
            match blank::make(&host, host.default_reach(), image.as_ref()) {
                Ok(blank) => {
                    failures = 0;
                    let mut waiting = self.lock();
                    if self.stopped.load(Ordering::Relaxed) {
                        drop(waiting);
                        host.discard_blank(blank);
                        return;
                    }
                    waiting.push_back(blank);
                }
                Err(error) => {
                    // It may be one that is not on the disk any more.
                    if let Some(image) = image {
                        self.demand().forget(&image);
                    }
                    tracing::warn!(error = &error as &dyn std::error::Error, "a blank failed");
                    failures = (failures + 1).min(6);
                    let pause = Duration::from_millis(100) * 2_u32.pow(failures);
                    let waiting = self.lock();
                    drop(self.wake.wait_timeout(waiting, pause));
                }
            }
        }
    }

    fn is_quiet(&self) -> bool {
        let last = *self.last_busy.lock().unwrap_or_else(PoisonError::into_inner);
        self.busy.load(Ordering::Relaxed) == 0 && last.is_none_or(|it| it.elapsed() >= QUIET)
    }

    /// Waits until a blank is wanted and making one disturbs nobody; false when stopped.
    fn wait_until_needed(&self, wanted: usize) -> bool {
        let mut waiting = self.lock();
        loop {
            if self.stopped.load(Ordering::Relaxed) {
                return false;
            }
            let enough = waiting.len() >= wanted;
            let give_way = !self.is_quiet() && waiting.len() * 2 > wanted;
            if !enough && !give_way {
                return true;
            }
            waiting = if enough {
                self.wake.wait(waiting).unwrap_or_else(PoisonError::into_inner)
            } else {
                let waited = self.wake.wait_timeout(waiting, QUIET);
                waited.unwrap_or_else(PoisonError::into_inner).0
            };
        }
    }
}

/// A create is under way.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Blanks>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
        *self.0.last_busy.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}

/// The images of the last creates; none for one that nobody will ask for again.
#[derive(Debug, Default)]
struct Demand(VecDeque<Option<Arc<Image>>>);

impl Demand {
    fn note(&mut self, image: Option<&Arc<Image>>) {
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(image.cloned());
    }

    fn forget(&mut self, image: &Arc<Image>) {
        self.0.retain(|it| !is_same(it.as_ref(), Some(image)));
    }

    /// The image whose share among those that are prepared is furthest below its share of the
    /// demand, with the next one counted in; the one that was asked for last among equals. None
    /// where nothing was asked for.
    fn most_wanted(&self, prepared: &[Option<Arc<Image>>]) -> Option<Option<Arc<Image>>> {
        let places = prepared.len() + 1;
        let missing = |image: &&Option<Arc<Image>>| {
            let share = count(&self.0, image.as_ref()) * places;
            let have = count(prepared, image.as_ref()) * self.0.len();
            // Of the demand's length times the places, so that nothing is rounded.
            share.cast_signed() - have.cast_signed()
        };
        self.0.iter().max_by_key(missing).cloned()
    }
}

fn is_same(one: Option<&Arc<Image>>, other: Option<&Arc<Image>>) -> bool {
    one.map(Arc::as_ptr) == other.map(Arc::as_ptr)
}

fn count<'a>(
    among: impl IntoIterator<Item = &'a Option<Arc<Image>>>,
    image: Option<&Arc<Image>>,
) -> usize {
    among.into_iter().filter(|it| is_same(it.as_ref(), image)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Arc<Image> {
        Arc::new(Image { layers: Vec::new(), trees: Vec::new(), missing: Vec::new() })
    }

    /// What a pool of `places` is made of, filled from nothing.
    fn filled(demand: &Demand, places: usize) -> Vec<Option<Arc<Image>>> {
        let mut prepared = Vec::new();
        while prepared.len() < places {
            prepared.extend(demand.most_wanted(&prepared));
        }
        prepared
    }

    #[test]
    fn images_have_the_share_in_which_they_were_asked_for() {
        let (often, seldom) = (image(), image());
        let mut demand = Demand::default();
        assert!(demand.most_wanted(&[]).is_none());
        for number in 0..40 {
            let image = match number % 8 {
                0 => Some(&seldom),
                1 => None,
                _ => Some(&often),
            };
            demand.note(image);
        }
        assert_eq!(demand.0.len(), REMEMBERED);
        let prepared = filled(&demand, 8);
        let counts = [Some(&often), Some(&seldom), None].map(|image| count(&prepared, image));
        assert_eq!(counts, [6, 1, 1]);
    }

    #[test]
    fn an_image_that_comes_back_is_another() {
        let (before, after) = (image(), image());
        assert_eq!(before, after);
        let mut demand = Demand::default();
        demand.note(Some(&before));
        demand.note(Some(&after));
        demand.forget(&before);
        assert_eq!(count(&filled(&demand, 3), Some(&after)), 3);
    }

    #[test]
    fn who_was_asked_for_last_comes_first_among_equals() {
        let (first, last) = (image(), image());
        let mut demand = Demand::default();
        demand.note(Some(&first));
        demand.note(Some(&last));
        assert!(is_same(demand.most_wanted(&[]).unwrap().as_ref(), Some(&last)));
    }
}
