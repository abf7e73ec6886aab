package cli

import (
	"fmt"
	"io"
	"os"
	"strings"

	"rsc.io/qr"

	"github.com/avoqado/avoqado-edge/internal/discovery"
)

// quiet is the light border that a reader needs, in modules (ISO/IEC 18004 §5.3.8).
const quiet = 4

// newQR makes the code with a tenth of it to spare for scratches, since it
// lies on paper in a kitchen.
func newQR(text string) (*qr.Code, error) {
	code, err := qr.Encode(text, qr.M)
	if err != nil {
		return nil, fmt.Errorf("make QR code of %d characters: %w", len(text), err)
	}
	return code, nil
}

// printQR prints two rows of modules as one line of text: the light modules are
// drawn, as on a screen that is dark. With colour it is right on a light one,
// too.
func printQR(w io.Writer, code *qr.Code, colour bool) error {
	var b strings.Builder
	for y := -quiet; y < code.Size+quiet; y += 2 {
		if colour {
			b.WriteString("\x1b[40;97m")
		}
		for x := -quiet; x < code.Size+quiet; x++ {
			upper, lower := !code.Black(x, y), !code.Black(x, y+1) && y+1 < code.Size+quiet
			switch {
			case upper && lower:
				b.WriteRune('█')
			case upper:
				b.WriteRune('▀')
			case lower:
				b.WriteRune('▄')
			default:
				b.WriteRune(' ')
			}
		}
		if colour {
			b.WriteString("\x1b[0m")
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// writePNG writes the code for a sheet that is printed.
func writePNG(path string, code *qr.Code) error {
	code.Scale = 8
	return os.WriteFile(path, code.PNG(), 0o644) //nolint:gosec // it hangs on a wall
}

// writeSVG does the same as a drawing.
func writeSVG(path, text string) error {
	drawing, err := discovery.DrawSVG(text)
	if err != nil {
		return err
	}
	return os.WriteFile(path, drawing, 0o644) //nolint:gosec // likewise
}
