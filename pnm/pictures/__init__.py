"""Pictures as cameras, satellites and video files give them, brought to the RGB that networks see; and drawn upon."""
