"""Pictures, tables and curves of a run: `page.write` makes one self-contained html page, `sheet.contact_sheet` a sheet."""
