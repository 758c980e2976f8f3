"""SYNTHETIC parts, drawn by seed with numpy alone: surfaces, defects with exact masks, folders in MVTec AD's layout."""
