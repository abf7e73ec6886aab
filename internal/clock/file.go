package clock

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/avoqado/avoqado-edge/internal/durable"
)

// kept is what is written down.
type kept struct {
	floor time.Time
	boots []known
}

// The file, as JSON.
type (
	fileForm struct {
		Floor time.Time  `json:"floor"`
		Boots []bootForm `json:"boots"`
	}
	bootForm struct {
		ID      string    `json:"id"`
		Time    time.Time `json:"time"` // at
		UpMs    int64     `json:"upMs"` // after the boot, give or take
		ErrorMs int64     `json:"errorMs"`
	}
)

func (k kept) save(path string) error {
	f := fileForm{Floor: k.floor.UTC(), Boots: make([]bootForm, len(k.boots))}
	for i, b := range k.boots {
		f.Boots[i] = bootForm{b.id, b.wall.UTC(), b.up.Milliseconds(), b.bound.Milliseconds() + 1}
	}
	raw, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(path, append(raw, '\n'))
}

func load(path string) (kept, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return kept{}, nil
	}
	var f fileForm
	if err == nil {
		err = json.Unmarshal(raw, &f)
	}
	if err != nil {
		return kept{}, fmt.Errorf("read %s: %w", path, err)
	}
	k := kept{floor: f.Floor}
	for _, b := range f.Boots {
		if b.ErrorMs > 0 {
			k.boots = append(k.boots, known{b.ID, anchor{b.Time, time.Duration(b.UpMs) * time.Millisecond, time.Duration(b.ErrorMs) * time.Millisecond}})
		}
	}
	return k, nil
}
