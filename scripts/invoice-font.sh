#!/bin/sh
# Makes the fonts of invoices, documents/font/*.ttf, from Noto Sans SC and Noto Sans:
#
#	scripts/invoice-font.sh
#
# Regular has what names and addresses need: the characters of GB 2312, of the
# table of general standard Chinese characters of 2013 and of Big5's first level,
# Latin, punctuation, and the signs of currencies. Bold has Latin and what the
# labels in documents/labels.go are written with; run this again when those change
# (a test says so). Latin has the letters of other European languages and of
# Vietnamese, Greek and Cyrillic, which Noto Sans SC lacks.
#
# Needs npm, pyftsubset (Debian: fonttools) and the tables of Unicode (Debian:
# unicode-data). The fonts are committed: neither a build nor a test runs this.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cd "$work"
npm pack --silent @expo-google-fonts/noto-sans-sc@0.4.3 @expo-google-fonts/noto-sans@0.4.2 >/dev/null
mkdir chinese latin
tar xzf expo-google-fonts-noto-sans-sc-*.tgz -C chinese
tar xzf expo-google-fonts-noto-sans-0*.tgz -C latin
bzcat /usr/share/unicode/Unihan_OtherMappings.txt.bz2 |
	awk -F '\t' '/^U[+]/ && $2 == "kTGH" { print $1 }' >standard.txt

python3 - "$root/documents/labels.go" <<'PYTHON'
import sys

def decodable(codec, rows, cells):
    for row in rows:
        for cell in cells:
            try:
                yield ord(bytes([row, cell]).decode(codec))
            except (UnicodeDecodeError, TypeError):
                pass

latin = set(range(0x20, 0x7F)) | set(range(0xA0, 0x100))
signs = set(range(0x2000, 0x2070)) | set(range(0x20A0, 0x20C1)) | set(range(0x2100, 0x2150)) | {0x2212, 0x3007}
chinese = set(decodable("gb2312", range(0xA1, 0xF8), range(0xA1, 0xFF)))
chinese |= set(decodable("big5", range(0xA1, 0xC7), [*range(0x40, 0x7F), *range(0xA1, 0xFF)]))
chinese |= {int(line[2:], 16) for line in open("standard.txt")}
labels = {ord(c) for c in open(sys.argv[1], encoding="utf-8").read()}

european = set(range(0x100, 0x250)) | set(range(0x370, 0x530)) | set(range(0x1E00, 0x1F00))

for name, wanted in (("regular", latin | signs | chinese), ("bold", latin | signs | labels), ("latin", european)):
    with open(name + ".txt", "w") as out:
        # PDF fonts made by fpdf address characters by 16 bits.
        out.writelines(f"U+{c:04X}\n" for c in sorted(wanted) if 0x20 <= c < 0x10000)
PYTHON

subset() {
	pyftsubset "$1" --unicodes-file="$2" --output-file="$root/documents/font/$3" \
		--layout-features='' --no-hinting --notdef-outline --name-IDs='*' \
		--drop-tables+=GSUB,GPOS,GDEF,BASE,STAT,vhea,vmtx,gasp,prep
}
subset chinese/package/400Regular/NotoSansSC_400Regular.ttf regular.txt NotoSansSC-Regular.ttf
subset chinese/package/700Bold/NotoSansSC_700Bold.ttf bold.txt NotoSansSC-Bold.ttf
subset latin/package/400Regular/NotoSans_400Regular.ttf latin.txt NotoSans-Regular.ttf
cp chinese/package/LICENSE_FONT "$root/documents/font/NotoSansSC-OFL.txt"
cp latin/package/LICENSE_FONT "$root/documents/font/NotoSans-OFL.txt"
