//! Who builds what, when several machines want the same layer.
//!
//! A registry cannot be asked to write only if nothing is there. So whoever wants to build a layer writes its
//! *note* where everybody looks, waits a moment, and looks whose note is there: the last one to write builds, and
//! all others wait. Two that write within that moment agree on one. If writing takes longer than
//! that, both build, which costs time and nothing else: what they make is the same, or is refused.
//!
//! No clock is compared with another. Whoever builds changes its note again and again, and one that has not
//! changed for a while is that of a machine that has died.
//!
//! That a note changes does not say that a layer comes of it: a builder may hang, and anybody who may write can change
//! notes. So nobody waits without end. Whoever has waited for long, or cannot get its own note to stay, builds the layer
//! without a word, and waits for nobody any more.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// What a machine says of a layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Note {
    /// Which process says so. A name that no other has, and that tells nothing of the machine.
    pub holder: String,
    /// Changes as long as the process lives.
    pub beat: u64,
    /// Whether the process does not build the layer any more.
    pub over: bool,
}

/// Where notes are, one for each layer. Whoever writes replaces what was there.
pub(super) trait Board: Send + Sync {
    /// What can go wrong.
    type Error;

    /// The note of `key`. What is no note counts as none.
    fn read(&self, key: &Digest) -> Result<Option<Note>, Self::Error>;

    /// Replaces the note of `key`.
    fn write(&self, key: &Digest, note: &Note) -> Result<(), Self::Error>;
}

/// How long everything takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// From writing a note to looking whether it is still there. Longer if writing takes long.
    pub settle: Duration,
    /// Between two looks at the note of another.
    pub look: Duration,
    /// Between two changes of one's own note.
    pub beat: Duration,
    /// How long a note may stay as it is before its holder counts as dead. Several beats.
    pub patience: Duration,
    /// How long to wait for a layer, whoever says that it builds it. Longer than layers take.
    pub longest: Duration,
    /// How many notes of one's own may be lost to those of others.
    pub tries: u32,
}

impl Pace {
    pub const STANDARD: Self = Self {
        // A second, since machines that build are busy: one that is held up for longer between looking and writing
        // builds what another one builds.
        settle: Duration::from_secs(1),
        look: Duration::from_secs(1),
        beat: Duration::from_secs(10),
        patience: Duration::from_secs(60),
        // A layer with much to install takes half an hour on a slow machine. More only costs time, and so does less: what
        // is built twice is the same.
        longest: Duration::from_secs(3600),
        // Each time, somebody else has written within the same second.
        tries: 5,
    };
}

/// What this process says on a board.
pub(super) struct Claims<B> {
    board: Arc<B>,
    holder: String,
    pace: Pace,
    /// Whether somebody was waited for in vain.
    is_tired: AtomicBool,
}

/// What [`Claims::claim`] comes to.
pub(super) enum Claim<T, B: Board> {
    /// Somebody has built it.
    Found(T),
    /// It is to be built here; others wait as long as this is not dropped.
    Mine(Held<B>),
    /// It is to be built here, whatever others say; the reason is given once.
    GivenUp(Option<String>),
}

impl<B: Board + 'static> Claims<B> {
    pub fn new(board: B, holder: String, pace: Pace) -> Self {
        Self { board: Arc::new(board), holder, pace, is_tired: AtomicBool::new(false) }
    }

    /// Gets what `find` finds, or the right to make it, whichever comes first. `waiting` is called once, before
    /// the first time that another one is waited for.
    pub fn claim<T>(
        &self,
        key: &Digest,
        find: impl Fn() -> Result<Option<T>, B::Error>,
        waiting: impl FnOnce(),
    ) -> Result<Claim<T, B>, B::Error> {
        let (started, mut lost) = (Instant::now(), 0);
        let mut seen: Option<(Note, Instant)> = None;
        let mut waiting = Some(waiting);
        loop {
            if let Some(found) = find()? {
                return Ok(Claim::Found(found));
            }
            if self.is_tired.load(Ordering::Relaxed) {
                return Ok(Claim::GivenUp(None));
            }
            if let Some(why) = self.enough(started, lost) {
                let was_tired = self.is_tired.swap(true, Ordering::Relaxed);
                return Ok(Claim::GivenUp((!was_tired).then_some(why)));
            }
            let other =
                self.board.read(key)?.filter(|note| !note.over && note.holder != self.holder);
            if other.is_some_and(|note| self.is_alive(note, &mut seen)) {
                if let Some(waiting) = waiting.take() {
                    waiting();
                }
                thread::sleep(self.pace.look);
                continue;
            }
            seen = None;
            if let Some(held) = self.take(key)? {
                // Whoever had it may have finished between the two looks.
                return match find()? {
                    Some(found) => Ok(Claim::Found(found)),
                    None => Ok(Claim::Mine(held)),
                };
            }
            lost += 1;
        }
    }

    /// Whether whoever has written `note` still builds, by when it has last changed, which `seen` remembers.
    fn is_alive(&self, note: Note, seen: &mut Option<(Note, Instant)>) -> bool {
        match seen {
            Some((before, since)) if *before == note => {
                let is_alive = since.elapsed() <= self.pace.patience;
                if !is_alive {
                    log::debug!("{} is silent, and builds nothing any more", note.holder);
                }
                is_alive
            }
            _ => {
                *seen = Some((note, Instant::now()));
                true
            }
        }
    }

    /// Why nobody is waited for any longer after a time since `started`, with so many notes `lost`, if so.
    fn enough(&self, started: Instant, lost: u32) -> Option<String> {
        let Pace { longest, tries, .. } = self.pace;
        if started.elapsed() > longest {
            let minutes = longest.as_secs() / 60;
            return Some(format!("others have said for {minutes} minutes that they build it"));
        }
        (lost >= tries).then(|| format!("others have written over what was said here {lost} times"))
    }

    /// Writes a note, and keeps to it if it is the last one that anybody has written.
    fn take(&self, key: &Digest) -> Result<Option<Held<B>>, B::Error> {
        let note = Note { holder: self.holder.clone(), beat: 0, over: false };
        let started = Instant::now();
        self.board.write(key, &note)?;
        thread::sleep(self.pace.settle.max(started.elapsed() * 2));
        let mine = self.board.read(key)?.is_some_and(|note| note.holder == self.holder);
        Ok(mine.then(|| Held::new(Arc::clone(&self.board), *key, note, self.pace.beat)))
    }
}

/// A note that is kept alive.
pub(super) struct Held<B: Board> {
    stop: Option<Sender<()>>,
    beating: Option<JoinHandle<()>>,
    _board: std::marker::PhantomData<B>,
}

impl<B: Board + 'static> Held<B> {
    fn new(board: Arc<B>, key: Digest, note: Note, beat: Duration) -> Self {
        let (stop, stopped) = channel();
        let beating = thread::spawn(move || keep_alive(&*board, &key, note, beat, &stopped));
        Self { stop: Some(stop), beating: Some(beating), _board: std::marker::PhantomData }
    }
}

impl<B: Board> Drop for Held<B> {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(beating) = self.beating.take() {
            // It has nothing to say.
            let _ = beating.join();
        }
    }
}

/// Changes `note` until there is nobody to tell `stopped`, and says then that it is over. A board that cannot be
/// reached for a moment is no reason to give up: the next beat may reach it.
fn keep_alive<B: Board>(
    board: &B,
    key: &Digest,
    mut note: Note,
    beat: Duration,
    stopped: &Receiver<()>,
) {
    let mine = || !matches!(board.read(key), Ok(Some(there)) if there.holder != note.holder);
    let mut beats = 0;
    while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(beat) {
        if !mine() {
            // This process was taken for dead. Now two build it.
            return;
        }
        beats += 1;
        let _ = board.write(key, &Note { beat: beats, ..note.clone() });
    }
    if mine() {
        note.over = true;
        let _ = board.write(key, &note);
    }
}

/// A name for this process that no other one has.
pub(super) fn holder() -> String {
    static COUNT: Mutex<u64> = Mutex::new(0);
    let mut count = COUNT.lock().unwrap_or_else(PoisonError::into_inner);
    *count += 1;
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let process = std::process::id();
    let text = format!("{} {process} {:?} {count}", boot.trim(), now.unwrap_or_default());
    Digest::of(text).short()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Long enough that a thread which is kept from running for a moment does not matter.
    const PACE: Pace = Pace {
        settle: Duration::from_secs(1),
        look: Duration::from_millis(5),
        beat: Duration::from_millis(10),
        patience: Duration::from_secs(3600),
        longest: Duration::from_secs(3600),
        tries: 5,
    };

    #[derive(Clone, Default)]
    struct Wall(Arc<Mutex<BTreeMap<Digest, Note>>>);

    impl Board for Wall {
        type Error = Infallible;

        fn read(&self, key: &Digest) -> Result<Option<Note>, Infallible> {
            Ok(self.0.lock().unwrap().get(key).cloned())
        }

        fn write(&self, key: &Digest, note: &Note) -> Result<(), Infallible> {
            self.0.lock().unwrap().insert(*key, note.clone());
            Ok(())
        }
    }

    fn claims(wall: &Wall) -> Claims<Wall> {
        Claims::new(wall.clone(), holder(), PACE)
    }

    #[test]
    fn of_many_that_want_the_same_one_makes_it() {
        let (wall, made) = (Wall::default(), AtomicUsize::new(0));
        let there = Mutex::new(BTreeMap::new());
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let claims = claims(&wall);
                    for key in ["a", "b", "c"].map(Digest::of) {
                        let find = || Ok(there.lock().unwrap().get(&key).copied());
                        match claims.claim(&key, find, || {}) {
                            Ok(Claim::Found(())) => {}
                            Ok(Claim::GivenUp(why)) => panic!("{why:?}"),
                            Ok(Claim::Mine(held)) => {
                                thread::sleep(Duration::from_millis(30));
                                made.fetch_add(1, Ordering::Relaxed);
                                there.lock().unwrap().insert(key, ());
                                drop(held);
                            }
                        }
                    }
                });
            }
        });
        assert_eq!(made.load(Ordering::Relaxed), 3);
        assert!(wall.0.lock().unwrap().values().all(|note| note.over));
    }

    #[test]
    fn who_gives_up_lets_the_next_one_try() {
        let (wall, key) = (Wall::default(), Digest::of("a"));
        let nothing = || Ok(None::<()>);
        for _ in 0..2 {
            let claim = claims(&wall).claim(&key, nothing, || panic!("nobody is waited for"));
            assert!(matches!(claim, Ok(Claim::Mine(_))));
        }
    }

    #[test]
    fn the_note_of_one_who_has_died_is_nobodys_and_that_of_the_living_stays() {
        let (wall, key) = (Wall::default(), Digest::of("a"));
        let nothing = || Ok(None::<()>);
        wall.write(&key, &Note { holder: "dead".to_owned(), beat: 7, over: false }).unwrap();
        let waited = AtomicUsize::new(0);
        let waiting = || _ = waited.fetch_add(1, Ordering::Relaxed);
        let impatient = Pace { patience: Duration::from_millis(50), ..PACE };
        let second = Claims::new(wall.clone(), holder(), impatient);
        let Ok(Claim::Mine(held)) = second.claim(&key, nothing, waiting) else {
            panic!("it is free")
        };
        assert_eq!(waited.load(Ordering::Relaxed), 1);
        // Whoever waits sees that the holder lives.
        let beats = || wall.0.lock().unwrap().get(&key).map_or(0, |note| note.beat);
        let find = || Ok((beats() > 3).then_some(()));
        assert!(matches!(claims(&wall).claim(&key, find, || {}), Ok(Claim::Found(()))));
        drop(held);
    }

    #[test]
    fn what_was_finished_between_two_looks_is_not_made_again() {
        let (wall, key) = (Wall::default(), Digest::of("a"));
        let looks = AtomicUsize::new(0);
        let find = || Ok((looks.fetch_add(1, Ordering::Relaxed) > 0).then_some(()));
        assert!(matches!(claims(&wall).claim(&key, find, || {}), Ok(Claim::Found(()))));
    }

    /// A board on which somebody else always has the last word.
    #[derive(Clone)]
    struct Occupied {
        over: bool,
        reads: Arc<AtomicUsize>,
        writes: Arc<AtomicUsize>,
    }

    impl Occupied {
        fn new(over: bool) -> Self {
            Self { over, reads: Arc::default(), writes: Arc::default() }
        }
    }

    impl Board for Occupied {
        type Error = Infallible;

        fn read(&self, _key: &Digest) -> Result<Option<Note>, Infallible> {
            let beat = self.reads.fetch_add(1, Ordering::Relaxed) as u64;
            Ok(Some(Note { holder: "another".to_owned(), beat, over: self.over }))
        }

        fn write(&self, _key: &Digest, _note: &Note) -> Result<(), Infallible> {
            self.writes.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    }

    #[test]
    fn one_who_says_for_ever_that_it_builds_is_not_waited_for_for_ever() {
        let board = Occupied::new(false);
        let pace = Pace { longest: Duration::from_millis(50), ..PACE };
        let claims = Claims::new(board.clone(), holder(), pace);
        let nothing = || Ok(None::<()>);
        let waited = AtomicUsize::new(0);
        let waiting = || _ = waited.fetch_add(1, Ordering::Relaxed);
        let Ok(Claim::GivenUp(Some(why))) = claims.claim(&Digest::of("a"), nothing, waiting) else {
            panic!("it is waited for")
        };
        assert!(why.contains("others have said"), "{why}");
        assert_eq!(waited.load(Ordering::Relaxed), 1);
        // What others have finished is taken, but nobody is waited for a second time.
        let reads = board.reads.load(Ordering::Relaxed);
        let again = claims.claim(&Digest::of("b"), nothing, || panic!("it is waited for"));
        assert!(matches!(again, Ok(Claim::GivenUp(None))));
        assert_eq!(board.reads.load(Ordering::Relaxed), reads);
        let found = claims.claim(&Digest::of("c"), || Ok(Some(())), || ());
        assert!(matches!(found, Ok(Claim::Found(()))));
    }

    #[test]
    fn a_board_that_never_shows_what_was_written_is_given_up() {
        let board = Occupied::new(true);
        let pace = Pace { settle: Duration::from_millis(1), tries: 3, ..PACE };
        let claims = Claims::new(board.clone(), holder(), pace);
        let claim = claims.claim(&Digest::of("a"), || Ok(None::<()>), || panic!("it is over"));
        let Ok(Claim::GivenUp(Some(why))) = claim else { panic!("it goes on") };
        assert!(why.contains("3 times"), "{why}");
        assert_eq!(board.writes.load(Ordering::Relaxed), 3);
    }
}
