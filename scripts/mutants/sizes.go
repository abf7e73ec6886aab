package main

// ofBulk break what a restored or salvaged journal is made of.
func ofBulk() []mutant {
	return []mutant{
		{
			"bulk: keys forgotten",
			[]edit{{
				"journal/bulk.go",
				`b.keys.add(hashKey(key), seq)`,
				`_ = hashKey(key)`,
			}},
			journal, "TestRestoredEqualsBackedUp|TestSalvageAnswersRepeats",
		},
		{
			"bulk: one batch over a gap",
			[]edit{{
				"journal/bulk.go",
				` || b.count > 0 && next != b.last+1`,
				``,
			}},
			journal, "TestSalvageSparesTheUntouched|TestSalvageReplacesAndKeeps|TestSalvageChooses",
		},
		{
			"bulk: last batch left out",
			[]edit{{
				"journal/bulk.go",
				`	if err := b.flush(); err != nil {
		return err
	}
	return b.segment.seal`,
				`	return b.segment.seal`,
			}},
			journal, "TestRestoredEqualsBackedUp",
		},
		{
			"bulk: age of a segment forgotten",
			[]edit{{
				"journal/bulk.go",
				`b.newest = getTime(at)`,
				`_ = at`,
			}},
			journal, "TestRestoredIsTrimmedInTime",
		},
		{
			"bulk: a segment without end",
			[]edit{{
				"journal/bulk.go",
				`b.size, b.count = size+int64(len(b.batch)), 0`,
				`b.size, b.count = min(size, 0), 0`,
			}},
			journal, "TestRestoredKeepsToItsCap|TestRestoredEqualsBackedUp",
		},
		{
			"bulk: a write error swallowed",
			[]edit{{
				"journal/bulk.go",
				`	return err
}

// seal`,
				`	_ = err
	return nil
}

// seal`,
			}},
			journal, "TestBulkTellsOfAFailedWrite",
		},
		{
			"restore: no fsync above it",
			[]edit{{
				"journal/restore.go",
				`makeDir(filepath.Dir(dir))`,
				`os.MkdirAll(filepath.Dir(dir), 0o700)`,
			}},
			powercut, "TestRestoreSurvives",
		},
	}
}

// ofSizes break what is done about messages that are too large for a broker.
func ofSizes() []mutant {
	return []mutant{
		{
			"size: batches never become smaller",
			[]edit{{
				"uplink/size.go",
				`s.ceiling = max(min(s.ceiling, refused/2), small)`,
				`s.ceiling = max(s.ceiling, min(refused/2, small))`,
			}},
			uplinkPkg, "TestTooLargeForTheBroker",
		},
		{
			"size: batches stay small for ever",
			[]edit{{
				"uplink/size.go",
				`s.ceiling, t.lowered = min(2*s.ceiling, maxBatchBytes), now`,
				`s.ceiling, t.lowered = s.ceiling, now`,
			}},
			uplinkPkg, "TestBatchesGrowAgain",
		},
		{
			"size: parked on a line that was not tried",
			[]edit{{
				"uplink/size.go",
				`case steadier*took >= t.calm:`,
				`case steadier*took >= 1000*calmMax:`,
			}},
			uplinkPkg, "TestFlakyNetworkParksNothing",
		},
		{
			"size: parked in memory alone",
			[]edit{{
				"uplink/size.go",
				`if err := u.parking.park(&events[0], reason, 0); err != nil {`,
				`if err := error(nil); err != nil {`,
			}},
			uplinkPkg, "TestTooLargeForTheBroker|TestUnconfirmedEventIsParked",
		},
	}
}
