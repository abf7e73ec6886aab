package journal

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// ErrBackup says that a backup is not as it was written, or is none.
var ErrBackup = errors.New("backup is damaged")

// maxBackupLine bounds the memory that reading a backup takes, in bytes. An
// event is far smaller; the first line holds the state of all parts: 1,000 large
// events that the cloud does not take are 220 MB of it.
const maxBackupLine = 512 << 20

// BackupSummary says what is in a backup.
type BackupSummary struct {
	BackupHead
	Events uint64      // that a journal restored from it has
	Oldest event.Seq   // of them; zero: none
	Newest event.Seq   // of them; zero: none
	Lost   []LostError // what could not be read when it was made
}

// VerifyBackup reads a backup to its end and checks every byte of it. ErrBackup
// says where it is damaged, ErrNewer that this version cannot read it.
func VerifyBackup(r io.Reader, p Progress) (BackupSummary, error) {
	summary, err := readBackup(r, p, visitor{
		event:   func(*event.Event) error { return nil },
		lost:    func(*LostError) error { return nil },
		trimmed: func(event.Seq) error { return nil },
	}, func(*BackupHead) error { return nil })
	if err != nil {
		return summary, fmt.Errorf("read backup: %w", err)
	}
	return summary, nil
}

// readBackup passes on what is in a backup as it reads. Nothing of it may be
// relied on before it has returned nil: only the end tells that all is there.
func readBackup(r io.Reader, p Progress, v visitor, begin func(*BackupHead) error) (BackupSummary, error) {
	var sum BackupSummary
	b := backupReader{sha: sha256.New()}
	zip, err := gzip.NewReader(r)
	if err != nil {
		return sum, b.damaged("it is not gzip", err)
	}
	b.r = bufio.NewReaderSize(zip, 64<<10)
	line, err := b.next()
	if err != nil {
		return sum, err
	}
	if line.Backup == nil {
		return sum, b.damaged("it does not begin as a backup", nil)
	}
	sum.BackupHead = *line.Backup
	if sum.Format > backupFormat {
		return sum, fmt.Errorf("format %d: %w", sum.Format, ErrNewer)
	}
	if err := begin(&sum.BackupHead); err != nil {
		return sum, err
	}
	next := sum.First
	total := uint64(max(sum.Stored+1, sum.First) - sum.First)
	counts := backupEnd{}
	for {
		if line, err = b.next(); err != nil {
			return sum, err
		}
		switch {
		case line.Event != nil:
			e, err := line.Event.event()
			if err != nil || e.Seq != next {
				return sum, b.damaged("not the event expected", err)
			}
			if err := v.event(&e); err != nil {
				return sum, err
			}
			next++
			counts.Events++
			sum.Events++
			sum.Newest = e.Seq
			if sum.Oldest == 0 {
				sum.Oldest = e.Seq
			}
		case line.Lost != nil:
			l := LostError{From: line.Lost.From, To: line.Lost.To, Err: errors.New(line.Lost.Reason)}
			if l.From != next || l.To < l.From {
				return sum, b.damaged("not the range expected", nil)
			}
			if err := v.lost(&l); err != nil {
				return sum, err
			}
			next = l.To + 1
			counts.LostEvents += uint64(l.To + 1 - l.From)
			sum.Lost = append(sum.Lost, l)
		case line.Trimmed != nil:
			if line.Trimmed.Through < next {
				return sum, b.damaged("not the range expected", nil)
			}
			if err := v.trimmed(line.Trimmed.Through); err != nil {
				return sum, err
			}
			next = line.Trimmed.Through + 1
			sum.Events, sum.Oldest, sum.Newest, sum.Lost = 0, 0, 0, nil
		case line.End != nil:
			counts.SHA256 = hex.EncodeToString(b.sha.Sum(nil))
			if *line.End != counts || next != sum.Stored+1 {
				return sum, b.damaged("its end does not match what is in it", nil)
			}
			return sum, b.end()
		default:
			return sum, b.damaged("a line of no known kind", nil)
		}
		p.tell(uint64(next-sum.First), total)
	}
}

// backupReader reads and checks the lines of a backup.
type backupReader struct {
	r    *bufio.Reader
	line int
	crc  uint32
	sha  hash.Hash // of the lines before the last one read
	raw  []byte    // the last one read
}

// backupLine is any line of a backup.
type backupLine struct {
	Backup  *BackupHead  `json:"backup"`
	Event   *backupEvent `json:"event"`
	End     *backupEnd   `json:"end"`
	Trimmed *struct {
		Through event.Seq `json:"through"`
	} `json:"trimmed"`
	Lost *struct {
		From   event.Seq `json:"from"`
		To     event.Seq `json:"to"`
		Reason string    `json:"reason"`
	} `json:"lost"`
}

// backupEvent is an event in either of its forms.
type backupEvent struct {
	plainEvent
	Payload json.RawMessage `json:"payload"`
	Record  []byte          `json:"record"`
}

func (b *backupEvent) event() (event.Event, error) {
	if b.Record != nil {
		record, rest, err := cut(b.Record)
		if err == nil && len(rest) > 0 {
			err = errRecord
		}
		if err == nil {
			err = verify(record, b.Seq)
		}
		if err != nil {
			return event.Event{}, err
		}
		return decode(record, b.Seq, b.Epoch)
	}
	return event.Event{
		Seq: b.Seq, Epoch: b.Epoch, ID: b.ID, Kind: b.Kind, Class: classOf(b.Class), Origin: originOf(b.Origin),
		Time:    b.Time,
		Clock:   event.Clock{Error: time.Duration(b.TimeErrorMs) * time.Millisecond, Boot: b.Boot, Up: time.Duration(b.UpMs) * time.Millisecond},
		Subject: b.Subject, Actor: b.Actor, Role: b.Role, Terminal: b.Terminal,
		CorrelationID: b.CorrelationID, Audience: b.Audience, Sender: b.Sender, Expires: b.Expires,
		DedupKey: b.DedupKey, Digest: b.Digest, Payload: b.Payload,
	}, nil
}

func (b *backupReader) next() (backupLine, error) {
	b.line++
	_, _ = b.sha.Write(b.raw) // never fails
	raw := b.raw[:0]
	for more := true; more; {
		part, err := b.r.ReadSlice('\n')
		more = errors.Is(err, bufio.ErrBufferFull)
		if err != nil && !more {
			return backupLine{}, b.damaged("it ends early", err)
		}
		if raw = append(raw, part...); len(raw) > maxBackupLine {
			return backupLine{}, b.damaged("the line is too long", nil)
		}
	}
	body := len(raw) - crcSize - 1
	if body < 0 {
		return backupLine{}, b.damaged("the line is too short", nil)
	}
	b.crc = crc32.Update(b.crc, castagnoli, raw[:body])
	if want := fmt.Appendf(nil, ",\"crc\":\"%08x\"}\n", b.crc); !bytes.Equal(raw[body:], want) {
		return backupLine{}, b.damaged("the line does not match its checksum", nil)
	}
	b.raw = raw
	var line backupLine
	if err := json.Unmarshal(raw, &line); err != nil {
		return line, b.damaged("the line is not as expected", err)
	}
	return line, nil
}

// end makes sure that nothing follows, and that gzip's own sum is right.
func (b *backupReader) end() error {
	b.line++
	if _, err := b.r.ReadByte(); !errors.Is(err, io.EOF) {
		return b.damaged("something follows its end", err)
	}
	return nil
}

func (b *backupReader) damaged(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%w: line %d: %s: %w", ErrBackup, b.line, what, err)
	}
	return fmt.Errorf("%w: line %d: %s", ErrBackup, b.line, what)
}
