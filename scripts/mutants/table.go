package main

import "slices"

// The directory of the code that is broken, and the packages of its tests.
const (
	dir      = "internal"
	journal  = "./internal/journal"
	powercut = "./internal/journal/powercut"
)

// mutant is one deliberate fault.
type mutant struct {
	name  string
	edits []edit // several where two guards stand behind each other
	pkg   string
	tests string // that must notice, as in go test -run
}

// edit is one change of the code.
type edit struct {
	file  string // in dir
	old   string // must stand in the file once
	fault string // what stands there instead
}

// mutants lists the faults.
func mutants() []mutant {
	return slices.Concat(ofTheJournal(), ofTheGuards(), ofLeases(), ofTime(), ofTheDoors(), ofBulk(), ofSizes())
}

// ofTheJournal each break one promise of the journal, in the way it is most easily
// broken.
func ofTheJournal() []mutant {
	return []mutant{
		// What a power cut takes away.
		{
			"commit without fsync",
			[]edit{{
				"journal/boltfile.go",
				`NoStatistics:    true,`,
				`NoStatistics: true, NoSync: true,`,
			}},
			powercut, "TestJournalSurvives|TestCreationSurvives",
		},
		{
			"no fsync of the directory after a rename",
			[]edit{{
				"journal/segment.go",
				`return syncDir(filepath.Dir(path))`,
				`return nil`,
			}},
			powercut, "TestJournalSurvives|TestCreationSurvives",
		},
		{
			"no fsync above a new journal",
			[]edit{{
				"journal/lock.go",
				`return syncDir(parent)`,
				`return nil`,
			}},
			powercut, "TestCreationSurvives",
		},
		{
			"a segment made under its own name",
			[]edit{{
				"journal/segment.go",
				`temp := path + tempSuffix`,
				`temp := path`,
			}},
			powercut, "TestJournalSurvives|TestCreationSurvives",
		},
		{
			"meta.db made under its own name",
			[]edit{{
				"journal/meta.go",
				`temp := path + tempSuffix`,
				`temp := path`,
			}},
			powercut, "TestCreationSurvives",
		},
		{
			"acknowledged before the commit",
			[]edit{{
				"journal/writer.go",
				`size, err := w.active.append(w.next, buf)`,
				`for i, e := range batch {
				if outcomes[i].seq > 0 {
					e.answer(event.Receipt{ID: e.event.ID, Epoch: w.active.about.epoch, Seq: outcomes[i].seq, Time: e.event.Time}, nil)
					batch[i].answer = func(event.Receipt, error) {}
				}
			}
			size, err := w.active.append(w.next, buf)`,
			}},
			powercut, "TestJournalSurvives",
		},
		{
			"the same, seen by the callers",
			[]edit{{
				"journal/writer.go",
				`size, err := w.active.append(w.next, buf)`,
				`for i, e := range batch {
				if outcomes[i].seq > 0 {
					e.answer(event.Receipt{ID: e.event.ID, Epoch: w.active.about.epoch, Seq: outcomes[i].seq, Time: e.event.Time}, nil)
					batch[i].answer = func(event.Receipt, error) {}
				}
			}
			size, err := w.active.append(w.next, buf)`,
			}},
			journal, "TestGroupCommitAnswersInOrder",
		},

		// Failing disks.
		{
			"write error swallowed",
			[]edit{{
				"journal/segment.go",
				`return size, err`,
				`return size, nil`,
			}},
			journal, "TestWriteErrorRollsToANewSegment",
		},
		{
			"failed segment written again",
			[]edit{{
				"journal/writer.go",
				`err = fmt.Errorf("store events: %w", err)
			j.setUnwell(err)
			j.abandon(err)`,
				`err = fmt.Errorf("store events: %w", err)
			j.setUnwell(err)`,
			}},
			journal, "TestWriteErrorRollsToANewSegment|TestFailedCommitIsVoid",
		},
		{
			"void batch kept",
			[]edit{{
				"journal/read.go",
				`limit = min(limit, j.segments[i+1].first-1)`,
				`limit += 0`,
			}},
			journal, "TestFailedCommitIsVoid",
		},
		{
			"lost events not rescued",
			[]edit{{
				"journal/writer.go",
				`w.rescue = events`,
				`w.rescue = nil`,
			}},
			journal, "TestRescue",
		},
		{
			"error of the state's commit swallowed",
			[]edit{{
				"journal/meta.go",
				`return fmt.Errorf("commit %s: %w", metaName, err)`,
				`return nil`,
			}},
			journal, "TestStateSurvivesAFailedCommit",
		},

		// Damage.
		{
			"checksum of a record ignored",
			[]edit{{
				"journal/record.go",
				`crc32.Checksum(body[4:], castagnoli) != binary.LittleEndian.Uint32(body)`,
				`false`,
			}},
			journal, "TestRecordKeepsEveryField|TestCheckNamesWhatIsWrong",
		},
		{
			"checksum of a cursor ignored",
			[]edit{{
				"journal/sum.go",
				`sum(key, value) == binary.LittleEndian.Uint32(stored[n:])`,
				`key != nil`,
			}},
			journal, "TestDamagedCursor",
		},
		{
			"list of free pages believed",
			[]edit{{
				"journal/pages.go",
				`meta, err := newestMeta(f.raw)
	if err != nil {
		return err
	}`,
				`meta, err := newestMeta(f.raw)
	if err != nil || len(meta) > 0 {
		return err
	}`,
			}},
			journal, "TestDamagedFreelist",
		},
		{
			"a lost commit not noticed",
			[]edit{{
				"journal/pages.go",
				`if h.Sum64() != order.Uint64(meta[56:])`,
				`if false`,
			}},
			journal, "TestEpochGrowsWhenHistoryIsLost",
		},
		{
			"epoch reused after a loss",
			[]edit{{
				"journal/journal.go",
				`epoch := event.NewEpoch(j.epoch)`,
				`epoch := j.epoch`,
			}},
			journal, "TestEpochGrowsWhenHistoryIsLost",
		},

		// Cursors and trimming.
		{
			"cursor moved before it is durable",
			[]edit{{
				"journal/meta.go",
				`if err := m.file.update(fn); err != nil {`,
				`then()
	if err := m.file.update(fn); err != nil {`,
			}},
			journal, "TestStateSurvivesAFailedCommit",
		},
		{
			"cursor moved in memory only",
			[]edit{{
				"journal/meta.go",
				`return putSum(tx.Bucket(cursorsBucket), []byte(name), seqBytes(to))`,
				`return nil`,
			}},
			powercut, "TestJournalSurvives",
		},
		{
			"cursor moved beyond the end",
			[]edit{{
				"journal/journal.go",
				`if to > j.Stored() {`,
				`if to > j.Stored()+1<<40 {`,
			}},
			journal, "TestCursors|TestModel",
		},
		{
			"cursor moved backwards",
			[]edit{{
				"journal/meta.go",
				`if have && to <= at {`,
				`if have && to == at {`,
			}},
			journal, "TestCursors|TestModel",
		},
		{
			"trimmed past a cursor",
			[]edit{{
				"journal/trim.go",
				`followed && hindmost < last {`,
				`followed && hindmost > last {`,
			}},
			powercut, "TestJournalSurvives",
		},
		{
			"segments trimmed without fsync in between",
			[]edit{{
				"journal/trim.go",
				`if err := syncDir(j.dir); err != nil {`,
				`if err := error(nil); err != nil {`,
			}},
			powercut, "TestTrimLeavesNoHole",
		},

		// Keys.
		{
			"keys forgotten after a restart",
			[]edit{{
				"journal/journal.go",
				`= s, r.keys, r.newest, r.bytes`,
				`= s, keyIndex{}, r.newest, r.bytes`,
			}},
			journal, "TestDuplicates|TestModel",
		},
		{
			"keys of sealed segments forgotten",
			[]edit{{
				"journal/keys.go",
				`if !s.filter.has(hash) {`,
				`if len(s.filter) > 0 {`,
			}},
			journal, "TestDuplicates|TestModel",
		},
		{
			"another event under the same key taken",
			[]edit{{
				"journal/writer.go",
				`if first.Digest != again.Digest {`,
				`if first.Digest != first.Digest {`,
			}},
			journal, "TestDuplicates",
		},
		{
			"duplicate answered twice",
			[]edit{{
				"journal/writer.go",
				`e.answer(duplicate(batch[o.same].event), nil)`,
				`e.answer(duplicate(batch[o.same].event), nil)
			e.answer(duplicate(batch[o.same].event), nil)`,
			}},
			journal, "TestDuplicatesInOneBatch",
		},

		// The end.
		{
			"last batch dropped at shutdown",
			[]edit{{
				"journal/writer.go",
				`if len(batch) == 0 && j.queue.ended() {`,
				`if ctx.Err() != nil {`,
			}},
			journal, "TestShutdownAnswersEverythingOnce",
		},
	}
}
