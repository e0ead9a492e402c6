/*
 * The epoch switch of docs/protocol.md (rekey), with two parties, channel 0, one reliable and one lossy channel, and
 * REKEYS rekeys, in every interleaving. Keys, clocks and contents are left out: a frame is its epoch and its kind.
 *
 * Checked: every frame of a reliable channel opens with keys that its receiver holds; no lossy frame is newer than
 * those; nobody holds receive state of more than two epochs; EPOCH is the first frame of an epoch, and nothing else
 * is; nobody is stuck (the run ends with both parties in the last epoch, the one before retired, every wish met).
 *
 * Each of these leaves out one rule, and is refuted:
 *   -DNO_HOLD        the responder answers REKEY1 at once (rule 2)
 *   -DEARLY_SWITCH   the responder sends under the new epoch as soon as it answered (rules 2 and 4)
 *   -DNO_EPOCH       no EPOCH on the channels other than 0 (rule 3)
 *   -DOWN_TIMER      a lossy channel's old state goes after the first new frame on that channel (rule 5)
 *   -DNO_WAIT        the initiator starts again before the old epoch is retired (rule 5)
 */

#ifndef REKEYS
#define REKEYS 2
#endif
/* Frames that each party may send besides those of the rekey. */
#ifndef FRAMES
#define FRAMES 2
#endif

#define I 0
#define R 1
#define MANY 12

mtype = { DATA, EPOCH, REQ, REKEY1, REKEY2 };

/* By receiver. */
chan control[2] = [MANY] of { mtype, byte };
chan reliable[2] = [MANY] of { mtype, byte };
/* Lossy frames under way, by receiver and epoch: any may come next, or never. */
typedef Counts { byte n[REKEYS + 1] };
Counts lossy[2];

byte tx[2];              /* epoch that a party sends under */
byte newest[2];          /* newest epoch with receive keys */
byte at_control[2];      /* oldest epoch with receive keys, by channel */
byte at_reliable[2];
byte at_lossy[2];
bool timer[2];           /* ten seconds run until the lossy channel's old state goes */
byte left[2] = FRAMES;
bool pending;            /* the initiator sent REKEY1, and waits for REKEY2 */
bool held;               /* the responder holds a REKEY1 */
bool asked;              /* the responder sent REKEY_REQ in this epoch */

#define RETIRED(p) (at_control[p] == newest[p] && at_reliable[p] == newest[p] && at_lossy[p] == newest[p])

#ifdef NO_WAIT
#define MAY_START true
#else
#define MAY_START RETIRED(I)
#endif
#ifdef NO_HOLD
#define MAY_ANSWER true
#else
#define MAY_ANSWER RETIRED(R)
#endif

/* Receive keys of one more epoch: never of a third. */
inline derive(p) {
  newest[p]++;
  assert(newest[p] - at_control[p] <= 1);
  assert(newest[p] - at_reliable[p] <= 1);
  assert(newest[p] - at_lossy[p] <= 1)
}

/* The first frames of an epoch, channel 0 first. */
inline switch_to(p, e) {
  tx[p] = e;
  control[1 - p]!EPOCH(e);
#ifndef NO_EPOCH
  reliable[1 - p]!EPOCH(e);
#endif
}

/* Rule 4: a valid frame under the next epoch, on whatever channel. */
inline confirmed(p, e) {
  if
  :: p == R && e > tx[p] ->
    switch_to(p, e);
    asked = false
  :: else
  fi
}

/* A frame of a reliable channel: the same epoch, or the next one if its keys exist, and then EPOCH. */
inline accept(at, kind, e) {
  assert(e == at || (e == at + 1 && e <= newest[me]));
#ifndef NO_EPOCH
  assert((e == at + 1) == (kind == EPOCH));
#endif
  at = e
}

inline handle_control(kind, e) {
  if
  :: kind == REQ -> assert(me == I)
  :: kind == REKEY1 ->
    assert(me == R && !held && newest[R] == e);
    held = true
  :: kind == REKEY2 ->
    assert(me == I && pending);
    pending = false;
    derive(I);
    switch_to(I, newest[I])
  :: else
  fi
}

inline answer() {
  held = false;
  derive(R);
  control[I]!REKEY2(tx[R]);
#ifdef EARLY_SWITCH
  switch_to(R, newest[R]);
  asked = false
#endif
}

proctype party(byte me) {
  mtype kind;
  byte e;
end:
  do
  /* Receiving. */
  :: atomic { control[me]?kind(e) ->
       bool first = e > at_control[me];
       accept(at_control[me], kind, e);
#ifndef OWN_TIMER
       if
       :: first -> timer[me] = true
       :: else
       fi;
#endif
       confirmed(me, e);
       handle_control(kind, e);
       kind = DATA; e = 0; first = false
     }
  :: atomic { reliable[me]?kind(e) ->
       accept(at_reliable[me], kind, e);
       confirmed(me, e);
       kind = DATA; e = 0
     }
  :: atomic { lossy[me].n[0] > 0 -> e = 0; goto receive_lossy }
  :: atomic { lossy[me].n[1] > 0 -> e = 1; goto receive_lossy }
#if REKEYS > 1
  :: atomic { lossy[me].n[2] > 0 -> e = 2; goto receive_lossy }
#endif
#if REKEYS > 2
  :: atomic { lossy[me].n[3] > 0 -> e = 3; goto receive_lossy }
#endif

  /* Ten seconds after the first frame of the new epoch on channel 0. */
  :: atomic { timer[me] -> timer[me] = false; at_lossy[me] = newest[me] }

  /* Sending what is not of the rekey. */
  :: atomic { left[me] > 0 -> left[me]--; control[1 - me]!DATA(tx[me]) }
  :: atomic { left[me] > 0 -> left[me]--; reliable[1 - me]!DATA(tx[me]) }
  :: atomic { left[me] > 0 -> left[me]--; lossy[1 - me].n[tx[me]]++ }

  /* Rule 1: the initiator starts, the responder may ask, once an epoch and not between its answer and its switch. */
  :: atomic { me == I && !pending && tx[I] < REKEYS && MAY_START -> pending = true; control[R]!REKEY1(tx[I]) }
  :: atomic { me == R && !asked && newest[R] == tx[R] && tx[R] < REKEYS -> asked = true; control[I]!REQ(tx[R]) }

  /* Rule 2. */
  :: atomic { me == R && held && MAY_ANSWER -> answer() }
  od;

receive_lossy:
  atomic {
    lossy[me].n[e]--;
    if
    :: true -> skip /* lost */
    :: true ->
      assert(e <= newest[me]);
      if
      :: e >= at_lossy[me] ->
#ifdef OWN_TIMER
        if
        :: e > at_lossy[me] -> timer[me] = true
        :: else
        fi;
#endif
        confirmed(me, e)
      :: else /* older than what is held: dropped and counted */
      fi
    fi;
    e = 0;
    goto end
  }
}

/* When nothing can happen any more, everything has happened. */
proctype judge() {
  timeout;
  assert(tx[I] == REKEYS && tx[R] == REKEYS);
  assert(RETIRED(I) && RETIRED(R));
  assert(!pending && !held && !asked)
}

init {
  atomic {
    run party(I);
    run party(R);
    run judge()
  }
}
