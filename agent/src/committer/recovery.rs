//! Recovery from a full disk: when free space is checked, and how a failed store is reopened.

use super::{Committer, Request};
use crossbeam_channel::RecvTimeoutError;
use kvgossip_engine::{Change, Failure, InternalError, Replica, StorageError};
use kvgossip_grants::FactId;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

/// Changes and authority facts of a batch whose commit failed.
#[derive(Default)]
pub(super) struct Unsettled {
    pub(super) changes: Vec<Change>,
    pub(super) authority: Vec<FactId>,
}

impl Committer {
    /// Whether free space on the disk can repair a failed commit. If so, the store is reopened when there is space.
    pub(super) fn may_reopen_after(&mut self, error: &Failure) -> bool {
        let mends = matches!(error, Failure::Storage(StorageError::Full | StorageError::Stopped(_)));
        if mends {
            let code = error.code();
            tracing::error!(%error, code, "nothing is taken in until the store was opened anew, reading goes on");
            self.unsettled.get_or_insert_default();
            self.watch.set_failure(Some(error.clone()));
        }
        mends
    }

    /// Waits for a request. While the disk has no space, requests are refused, and the disk is checked again at a fixed
    /// interval, however many requests arrive.
    pub(super) fn next_request(&mut self) -> Option<Request> {
        let mut due = Instant::now() + self.patience.room;
        while let Some(error) = self.watch.failure() {
            if Instant::now() >= due {
                self.ask_for_room();
                due = Instant::now() + self.patience.room;
                continue;
            }
            match self.requests.recv_deadline(due) {
                Ok(request) => {
                    // The sender may be gone.
                    let _ = request.reply.send(Err(error.into()));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
        self.requests.recv().ok()
    }

    pub(super) fn ask_for_room(&mut self) {
        let _busy = self.watch.busy();
        match (self.storage.probe(), self.watch.failure()) {
            (Ok(()), None) => {}
            (Ok(()), Some(_)) if self.unsettled.is_some() => self.reopen(),
            // The reason of the refusal is set already.
            (Err(_), Some(_)) if self.unsettled.is_some() => {}
            (Ok(()), Some(_)) => {
                tracing::info!("the store has room again: facts are taken in");
                self.watch.set_failure(None);
            }
            (Err(error), None) => {
                tracing::error!(%error, code = error.code(), "the store is read only");
                self.watch.set_failure(Some(error.into()));
            }
            (Err(error), Some(_)) => self.watch.set_failure(Some(error.into())),
        }
    }

    /// Reopens a failed store and continues from the durable state. If reopening fails, the committer tries again.
    fn reopen(&mut self) {
        let opened = catch_unwind(AssertUnwindSafe(|| self.load_anew()));
        let opened = opened.unwrap_or_else(|_| Err(InternalError::Committer.into()));
        match opened {
            Ok(()) => {
                tracing::info!("the store was opened anew: facts are taken in");
                self.watch.set_failure(None);
            }
            Err(error) => tracing::warn!(%error, code = error.code(), "the store was not opened anew"),
        }
    }

    fn load_anew(&mut self) -> Result<(), Failure> {
        self.storage.reopen()?;
        let root = self.replica.view().authority().root().clone();
        let replica = Replica::load(root, self.storage.as_ref())?;
        let before = self.published.load().view.batch();
        let Unsettled { changes, authority } = match replica.view().batch() {
            batch if batch == before => Unsettled::default(),
            // The failed batch is durable; writers that offer its facts again get a verdict that says so.
            batch if batch == before + 1 && replica.view().root() == self.replica.view().root() => {
                self.unsettled.take().unwrap_or_default()
            }
            batch => return Err(StorageError::RolledBack { expected: before, found: batch }.into()),
        };
        self.unsettled = None;
        self.replica = replica;
        self.publish(changes, authority);
        self.batches.send_replace(self.replica.view().batch());
        Ok(())
    }
}
