//! What each action does.

use fencegate::rule::{Verdict, admit};

use super::fence::{Action, Defect, FORGER, Fence, Forcing, NOBODY, State, Step, Token};

impl Fence {
    /// Does it; `None` where it cannot happen.
    pub fn step(&self, state: &mut State, action: Action) -> Option<()> {
        match action {
            Action::Prepare(i)
            | Action::Acquire(i)
            | Action::Check(i)
            | Action::Seal(i)
            | Action::HandOut(i)
            | Action::Enter(i)
            | Action::Retire(i)
            | Action::Delete(i) => {
                state.clients[i].step = self.next(state, i, action)?;
            }
            Action::Commit(i) => {
                let token = state.clients[i].transaction.take()?;
                state.write(token);
            }
            Action::Rollback(i) => {
                state.clients[i].transaction.take()?;
            }
            Action::RenewLate(i) => {
                let Step::Holding(token) = state.clients[i].step else {
                    return None;
                };
                if self.is(Defect::RenewalTakesBack) && state.service.lock.is_none() {
                    state.take(token);
                }
            }
            Action::Deliver(token) => {
                if self.raises(state, token) {
                    state.store.mark = Some(token);
                }
                if !self.admits(state, token) {
                    return None;
                }
                state.write(token);
            }
            Action::Expire => {
                let (_, holder) = state.service.lock?;
                state.delete(holder);
            }
            Action::Regress(counter) => {
                use_up(&mut state.left.regressions)?;
                state.lose_lock();
                state.service.counter = counter;
            }
            Action::Replace => {
                use_up(&mut state.left.replacements)?;
                state.lose_lock();
                state.service.history += 1;
                state.service.counter = 0;
            }
            Action::Rebase => {
                use_up(&mut state.left.rebases)?;
                if state.quarantined() && !self.is(Defect::EpochsRepeat) {
                    state.store.epoch = state.epochs;
                }
                state.store.epoch += 1;
                state.epochs = state.epochs.max(state.store.epoch);
                state.store.bound = Some(state.service.history);
                state.store.trusted = state.timeline;
                if !self.is(Defect::RebaseLeavesMarks) {
                    let nobody = |_| Token {
                        epoch: state.store.epoch,
                        sequence: 0,
                        holder: NOBODY,
                    };
                    state.store.mark = state.store.mark.map(nobody);
                }
                state.leave();
            }
            Action::ForceRetire => {
                let (sequence, holder) = state.service.lock?;
                use_up(&mut state.left.forced)?;
                let dead = Token {
                    epoch: state.store.epoch,
                    sequence,
                    holder: NOBODY,
                };
                self.force_retire(state, holder);
                state.forcing = Some(Forcing::Delete { holder, dead });
            }
            Action::ForceDelete => {
                let Some(Forcing::Delete { holder, dead }) = state.forcing else {
                    return None;
                };
                state.delete(holder);
                state.forcing = Some(Forcing::Mark { holder, dead });
            }
            Action::ForceMark => {
                let Some(Forcing::Mark { holder, dead }) = state.forcing else {
                    return None;
                };
                state.forcing = None;
                // Not sealed yet, and never to be: its number is used up.
                let bound = *state.store.bound.get_or_insert(state.service.history);
                let ours = bound == state.service.history && state.store.epoch == dead.epoch;
                if ours
                    && self.rule(state, dead, true) == Verdict::Seal
                    && !self.is(Defect::ForceLeavesUnsealed)
                {
                    state.end_transactions_of_others(dead);
                    state.store.mark = Some(dead);
                }
                // Or it was sealed before that.
                self.force_retire(state, holder);
                state.released.add(holder);
            }
            Action::Replicate => {
                use_up(&mut state.left.replications)?;
                state.standby = state.store;
            }
            Action::Failover => {
                use_up(&mut state.left.failovers)?;
                state.store = state.standby;
                state.timeline += 1;
                state.leave();
            }
        }
        Some(())
    }

    fn force_retire(&self, state: &mut State, holder: u8) {
        let sealed = state.store.mark.filter(|mark| mark.holder == holder);
        if let Some(mark) = sealed.filter(|_| !self.is(Defect::ForceLeavesMark)) {
            state.retire(mark);
        }
    }

    /// The client's next step.
    fn next(&self, state: &mut State, i: usize, action: Action) -> Option<Step> {
        let late = self.is(Defect::EpochReadLate);
        Some(match (action, state.clients[i].step) {
            (Action::Prepare(_), Step::Idle) => Step::Prepared {
                epoch: state.store.epoch,
                bound: state.store.bound,
                floor: state.store.mark.map_or(0, |mark| mark.sequence),
            },
            (Action::Acquire(_), Step::Prepared { epoch, bound, floor }) => {
                if state.service.lock.is_some() {
                    return None;
                }
                use_up(&mut state.left.acquisitions)?;
                let floor = if self.floor { floor } else { 0 };
                state.service.counter = state.service.counter.max(floor) + 1;
                state.holders += 1;
                let token = Token {
                    epoch,
                    sequence: state.service.counter,
                    holder: state.holders,
                };
                state.take(token);
                Step::Acquired {
                    token,
                    bound,
                    history: state.service.history,
                }
            }
            (
                Action::Check(_),
                Step::Acquired {
                    mut token,
                    bound,
                    history,
                },
            ) => {
                if late {
                    token.epoch = state.store.epoch;
                }
                let bound = if late { state.store.bound } else { bound };
                // The first grant binds the epoch.
                let bound = bound.unwrap_or_else(|| *state.store.bound.get_or_insert(history));
                if bound == history {
                    Step::Checked(token)
                } else {
                    state.delete(token.holder);
                    Step::Idle
                }
            }
            (Action::Seal(_), Step::Checked(token)) => {
                if self.is(Defect::SealByFirstWrite) {
                    Step::Sealed(token)
                } else if self.seals(state, token) {
                    if !self.is(Defect::NoLockWhileWriting) {
                        state.end_transactions_of_others(token);
                    }
                    state.store.mark = Some(token);
                    Step::Sealed(token)
                } else {
                    state.delete(token.holder);
                    Step::Idle
                }
            }
            (Action::HandOut(_), Step::Sealed(token)) => {
                state.hand_out(token);
                Step::Holding(token)
            }
            (Action::HandOut(_), step @ Step::Checked(token)) if self.is(Defect::SealAfterHandingOut) => {
                state.hand_out(token);
                step
            }
            (Action::Enter(_), step @ Step::Holding(token)) => {
                if !self.admits(state, token) {
                    return None;
                }
                state.clients[i].transaction = Some(token);
                step
            }
            (Action::Retire(_), Step::Holding(token)) => {
                if !self.is(Defect::ReleaseWithoutRetire) {
                    state.retire(token);
                }
                Step::Retired(token)
            }
            (Action::Delete(_), Step::Retired(token)) => {
                state.delete(token.holder);
                state.released.add(token.holder);
                Step::Idle
            }
            _ => return None,
        })
    }

    fn is(&self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }

    /// What the guard says.
    fn admits(&self, state: &State, token: Token) -> bool {
        let store = &state.store;
        let lost = state.quarantined() && !self.is(Defect::TimelineIgnored);
        let mut shown = token;
        if self.is(Defect::HolderIgnored) {
            shown.holder = store.mark.map_or(shown.holder, |mark| mark.holder);
        }
        !lost && self.rule(state, shown, false) == Verdict::Admit
    }

    /// Whether the seal of a token that was just granted passes.
    fn seals(&self, state: &State, token: Token) -> bool {
        let lost = state.quarantined() && !self.is(Defect::TimelineIgnored);
        let left = token.epoch != state.store.epoch && !self.is(Defect::SealIgnoresEpoch);
        let higher = matches!(self.rule(state, token, true), Verdict::Admit | Verdict::Seal);
        !lost && !left && (higher || self.is(Defect::SealDownwards))
    }

    /// Whether a write raises the mark, which none may.
    fn raises(&self, state: &State, token: Token) -> bool {
        let believed = match self.defect {
            Some(Defect::HigherIsBelieved) => true,
            Some(Defect::SealByFirstWrite) => token.holder != FORGER,
            _ => false,
        };
        believed && self.rule(state, token, true) == Verdict::Seal
    }

    /// The crate's rule.
    fn rule(&self, state: &State, token: Token, confirmed: bool) -> Verdict {
        let mark = state.store.mark.map(Token::mark);
        admit(mark.as_ref(), &token.mark(), confirmed)
    }
}

impl State {
    /// Whoever gets the lock.
    fn take(&mut self, token: Token) {
        self.broken.no_resurrection |= self.ended.has(token.holder);
        self.service.lock = Some((token.sequence, token.holder));
    }

    /// Deletes the lock, if it is this holder's. The holder's acquisition is over either way.
    fn delete(&mut self, holder: u8) {
        if self.service.lock.is_some_and(|(_, by)| by == holder) {
            self.service.lock = None;
        }
        self.ended.add(holder);
    }

    /// What was, counts no more.
    fn leave(&mut self) {
        (1..=self.holders).for_each(|holder| self.before.add(holder));
        self.clients
            .iter_mut()
            .for_each(|client| client.transaction = None);
    }

    fn lose_lock(&mut self) {
        if let Some((_, holder)) = self.service.lock {
            self.delete(holder);
        }
    }

    fn hand_out(&mut self, token: Token) {
        if let Err(place) = self.tokens.binary_search(&token) {
            self.tokens.insert(place, token);
        }
        if self
            .store
            .granted
            .is_none_or(|highest| highest.number() < token.number())
        {
            self.store.granted = Some(token);
        }
    }

    fn retire(&mut self, token: Token) {
        if self.store.mark == Some(token) {
            self.store.mark = Some(Token {
                holder: NOBODY,
                ..token
            });
            self.end_transactions_of_others(Token {
                holder: NOBODY,
                ..token
            });
        }
    }

    fn end_transactions_of_others(&mut self, token: Token) {
        for client in &mut self.clients {
            client.transaction = client.transaction.filter(|entered| *entered == token);
        }
    }

    /// A write is committed.
    fn write(&mut self, token: Token) {
        let broken = &mut self.broken;
        if let Some(last) = self.store.written {
            broken.monotone |= token.number() < last.number();
            broken.one_holder |= token.number() == last.number() && token.holder != last.holder;
        }
        if let Some(granted) = self.store.granted {
            broken.sealed_on_grant |= token.number() < granted.number();
        }
        broken.no_forged_advance |= token.holder == FORGER;
        broken.released_is_dead |= self.released.has(token.holder);
        broken.left_history |= self.before.has(token.holder);
        self.store.written = Some(token);
    }
}

/// `None` if there is none left.
fn use_up(left: &mut u8) -> Option<()> {
    *left = left.checked_sub(1)?;
    Some(())
}
