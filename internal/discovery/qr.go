package discovery

import (
	"fmt"
	"strings"

	"rsc.io/qr"
)

// quiet is the light border that a reader needs, in modules (ISO/IEC 18004 §5.3.8).
const quiet = 4

// DrawSVG returns the QR code of a text as a picture, black on white with its
// border, with a tenth of it to spare for scratches. It fails if the text is
// longer than a code holds.
func DrawSVG(text string) ([]byte, error) {
	code, err := qr.Encode(text, qr.M)
	if err != nil {
		return nil, fmt.Errorf("make QR code of %d characters: %w", len(text), err)
	}
	side := code.Size + 2*quiet
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" shape-rendering="crispEdges">`, side, side)
	fmt.Fprintf(&b, `<path fill="#fff" d="M0 0h%dv%dH0z"/><path d="`, side, side)
	for y := range code.Size {
		for x := range code.Size {
			if code.Black(x, y) {
				fmt.Fprintf(&b, "M%d %dh1v1h-1z", x+quiet, y+quiet)
			}
		}
	}
	b.WriteString("\"/></svg>\n")
	return []byte(b.String()), nil
}
